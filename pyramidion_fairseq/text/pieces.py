"""Pieces of words."""

from typing import Iterable

#: What sentencepiece puts in the place of a blank, so that it begins the first piece of every word.
WORD_START = "\u2581"


def are_sentencepiece(symbols: Iterable[str]) -> bool:
    """Return whether symbols of a dictionary are the pieces of a sentencepiece model."""
    return any(symbol.startswith(WORD_START) for symbol in symbols)
