"""Base class of the tokenizers: words to the model's tokens and back, with the word that each token belongs to."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Sequence

from .words import find_words


@dataclass(frozen=True)
class TokenizedText:
    """Words and their tokens."""

    words: tuple[str, ...]
    space_after: tuple[bool, ...]
    """Whether a space follows each word."""
    tokens: tuple[int, ...]
    """Ids in fairseq's dictionary, without ``</s>``."""
    token_words: tuple[int, ...]
    """For each token the index of its word."""

    @property
    def text(self) -> str:
        """The text: the words joined with their spaces."""
        return join_words(self.words, self.space_after)


class Tokenizer:
    """Converts words to tokens and back; subclasses implement how text is split into pieces and joined.

    Args:
        dictionary: fairseq dictionary that maps pieces to ids.
    """

    def __init__(self, dictionary: Any):
        self.dictionary = dictionary

    def encode(self, words: Sequence[str], space_after: Sequence[bool], limit: int) -> TokenizedText:
        """Return up to ``limit`` tokens of a text that is given in words.

        All words are returned, including those beyond the last token.
        """
        size = limit * 8  # characters, usually enough: pieces of English text have four to five
        while True:
            last = _prefix(words, space_after, size)
            pieces, offsets = self._split(join_words(words[:last], space_after[:last]))
            if last == len(words) or len(pieces) >= limit:
                break
            size *= 2
        tokens = tuple(self.dictionary.index(piece) for piece in pieces[:limit])
        ends = _word_ends(words[:last], space_after[:last])
        return TokenizedText(tuple(words), tuple(space_after), tokens, _words_of(offsets[:limit], ends))

    def decode(self, tokens: Sequence[int], marker: int | None = None) -> TokenizedText:
        """Convert generated tokens (without ``</s>``) to words; ``<s>`` and ``marker`` have no text."""
        silent = (self.dictionary.bos(), marker)
        pieces = ["" if token in silent else self.dictionary[token] for token in tokens]
        text, offsets = self._join(pieces)
        found = list(find_words(text))
        starts, ends = [start for _, start, _ in found], [end for _, _, end in found]
        space_after = tuple(after > end for end, after in zip(ends, [*starts[1:], 0]))
        words = tuple(word for word, _, _ in found)
        return TokenizedText(words, space_after, tuple(tokens), _words_of(offsets, ends))

    def _split(self, text: str) -> tuple[list[str], list[tuple[int, int]]]:
        """Return the pieces of a text and the [start, end) characters of each piece."""
        raise NotImplementedError

    def _join(self, pieces: list[str]) -> tuple[str, list[tuple[int, int]]]:
        """Return the text of pieces and the [start, end) characters of each: the inverse of :meth:`_split`."""
        raise NotImplementedError


def join_words(words: Sequence[str], space_after: Sequence[bool]) -> str:
    """Join words and spaces to a text on one line, as in the cleaned training data."""
    return "".join(word + " " if space else word for word, space in zip(words, space_after)).rstrip(" ")


def _word_ends(words: Sequence[str], space_after: Sequence[bool]) -> list[int]:
    """Return the end of each word in the text of :func:`join_words`, in characters."""
    ends = accumulate(len(word) + space for word, space in zip(words, space_after))
    return [end - space for end, space in zip(ends, space_after)]


def _prefix(words: Sequence[str], space_after: Sequence[bool], size: int) -> int:
    """Return how many words make a text of at least ``size`` characters that ends at a space if possible."""
    total = 0
    for number, (word, space) in enumerate(zip(words, space_after), start=1):
        total += len(word) + space
        if (total >= size and space) or total >= 2 * size:
            return number
    return len(words)


def _words_of(offsets: Sequence[tuple[int, int]], ends: Sequence[int]) -> tuple[int, ...]:
    """Return the index of the word that each piece belongs to.

    This is the word of the piece's last character, or the next word if that character is a space.
    """
    return tuple(min(bisect_right(ends, max(start, end - 1)), len(ends) - 1) for start, end in offsets)
