"""Extractive fragments of a summary: what it copies, by the greedy algorithm of Grusky et al. (2018)."""

from __future__ import annotations

from typing import Mapping, Sequence


def word_positions(words: Sequence[str]) -> dict[str, list[int]]:
    """Return the indices at which each word of a document stands, in rising order."""
    positions: dict[str, list[int]] = {}
    for index, word in enumerate(words):
        positions.setdefault(word, []).append(index)
    return positions


def fragment_lengths(
    summary: Sequence[str], document: Sequence[str], positions: Mapping[str, Sequence[int]] | None = None
) -> list[int]:
    """Return the length in words of each extractive fragment of a summary, in its order.

    The algorithm of Figure 3 of "Newsroom: A Dataset of 1.3 Million Summaries with Diverse Extractive Strategies",
    with its published code's reading of it: a search of the document goes on after each match, not inside it, so that
    a longer match that begins inside a shorter one is not found; equal fragments count each.

    Args:
        summary: words.
        document: words.
        positions: what :func:`word_positions` gives for the document, where it is known.
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
