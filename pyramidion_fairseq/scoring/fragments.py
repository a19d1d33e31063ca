"""Extractive fragments of a summary (copied word sequences), by the greedy algorithm of Grusky et al. (2018)."""

from __future__ import annotations

from typing import Mapping, Sequence


def word_positions(words: Sequence[str]) -> dict[str, list[int]]:
    """Return the indices of each word in a document, in ascending order."""
    positions: dict[str, list[int]] = {}
    for index, word in enumerate(words):
        positions.setdefault(word, []).append(index)
    return positions


def fragment_lengths(
    summary: Sequence[str], document: Sequence[str], positions: Mapping[str, Sequence[int]] | None = None
) -> list[int]:
    """Return the length in words of each extractive fragment of a summary, in order.

    This is the algorithm in Figure 3 of "Newsroom: A Dataset of 1.3 Million Summaries with Diverse Extractive
    Strategies", as implemented in its published code. The search in the document continues after each match, so that a
    longer match that begins inside a shorter one is not found. Repeated fragments are all counted.

    Args:
        summary: words of the summary.
        document: words of the document.
        positions: :func:`word_positions` of the document, if already computed.
    """
    positions = word_positions(document) if positions is None else positions
    lengths, start = [], 0
    while start < len(summary):
        longest = after = 0
        for index in positions.get(summary[start], ()):
            if index < after:
                continue
            length, most = 1, min(len(summary) - start, len(document) - index)
            while length < most and summary[start + length] == document[index + length]:
                length += 1
            longest, after = max(longest, length), index + length
        if longest:
            lengths.append(longest)
        start += max(longest, 1)
    return lengths
