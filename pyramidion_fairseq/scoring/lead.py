"""The lead baseline: a document's first words as its summary."""

from __future__ import annotations

from typing import Sequence


def mean_words(texts: Sequence[str]) -> int:
    """Words that a text has on average, rounded; at least 1."""
    return max(1, round(sum(len(text.split()) for text in texts) / max(1, len(texts))))


def lead_baseline(documents: Sequence[str], words: int) -> list[str]:
    """The first ``words`` words of each document."""
    return [" ".join(document.split(None, words)[:words]) for document in documents]
