"""The lead baseline: a document's first words as its summary."""

from __future__ import annotations

from typing import Sequence

from .unicode_words import word_ends


def mean_words(texts: Sequence[str]) -> int:
    """Return the mean number of words of the texts, rounded, at least 1. See :func:`~.unicode_words.word_ends`."""
    return max(1, round(sum(len(word_ends(text)) for text in texts) / max(1, len(texts))))


def lead_baseline(documents: Sequence[str], words: int) -> list[str]:
    """Return the first ``words`` words of each document, with white space replaced by single spaces."""
    return [_first(document, words) for document in documents]


def _first(document: str, words: int) -> str:
    ends = word_ends(document)[:words]
    return " ".join(document[: ends[-1]].split()) if ends else ""
