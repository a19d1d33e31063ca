"""The pieces of sentencepiece models."""

from typing import Iterable

#: sentencepiece's character for a preceding space, with which the first piece of every word begins.
WORD_START = "\u2581"


def are_sentencepiece(symbols: Iterable[str]) -> bool:
    """Return whether the symbols of a dictionary are the pieces of a sentencepiece model."""
    return any(symbol.startswith(WORD_START) for symbol in symbols)
