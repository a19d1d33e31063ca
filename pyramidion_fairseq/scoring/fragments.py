"""Extractive fragments of a summary: what it copies, by the greedy algorithm of Grusky et al. (2018)."""

from __future__ import annotations

from typing import Mapping, Sequence


def places_of(words: Sequence[str]) -> dict[str, list[int]]:
    """Return where in a document each word stands, in rising order."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word, []).append(place)
    return places


def fragment_lengths(
    summary: Sequence[str], document: Sequence[str], places: Mapping[str, Sequence[int]] | None = None
) -> list[int]:
    """Return the length in words of each extractive fragment of a summary, in its order.

    The algorithm of Figure 3 of "Newsroom: A Dataset of 1.3 Million Summaries with Diverse Extractive Strategies",
    with its published code's reading of it: a search of the document goes on after each match, not inside it, so that
    a longer match that begins inside a shorter one is not found; equal fragments count each.

    Args:
        summary: words.
        document: words.
        places: what :func:`places_of` gives for the document, where it is known.
    """
    places = places_of(document) if places is None else places
    lengths, start = [], 0
    while start < len(summary):
        longest = after = 0
        for place in places.get(summary[start], ()):
            if place < after:
                continue
            length, most = 1, min(len(summary) - start, len(document) - place)
            while length < most and summary[start + length] == document[place + length]:
                length += 1
            longest, after = max(longest, length), place + length
        if longest:
            lengths.append(longest)
        start += max(longest, 1)
    return lengths
