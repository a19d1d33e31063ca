"""What all tokenizers share: words to the model's tokens and back, with the word that each token belongs to."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Sequence

from .words import find_words


@dataclass(frozen=True)
class TokenizedText:
    """Words and the tokens made of them."""

    words: tuple[str, ...]
    space_after: tuple[bool, ...]
    tokens: tuple[int, ...]
    """Ids in fairseq's dictionary, without ``</s>``."""
    token_words: tuple[int, ...]
    """Per token the index of its word."""

    @property
    def text(self) -> str:
        """The words with their spaces."""
        return join_words(self.words, self.space_after)


class Tokenizer:
    """Words to tokens and back; subclasses say how a text is split into pieces, and joined.

    Args:
        dictionary: fairseq's, from pieces to ids.
    """

    def __init__(self, dictionary: Any):
        self.dictionary = dictionary

    def encode(self, words: Sequence[str], space_after: Sequence[bool], limit: int) -> TokenizedText:
        """Return the first ``limit`` tokens of a text in words (or all).

        Words of which no token is left are kept, too.
        """
        size = limit * 8  # characters that are mostly enough: pieces of English text have four to five
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
        """Return generated tokens (without ``</s>``) as words; ``<s>`` and a marker stand for nothing."""
        silent = (self.dictionary.bos(), marker)
        pieces = ["" if token in silent else self.dictionary[token] for token in tokens]
        text, offsets = self._join(pieces)
        found = list(find_words(text))
        starts, ends = [start for _, start, _ in found], [end for _, _, end in found]
        space_after = tuple(after > end for end, after in zip(ends, [*starts[1:], 0]))
        words = tuple(word for word, _, _ in found)
        return TokenizedText(words, space_after, tuple(tokens), _words_of(offsets, ends))

    def _split(self, text: str) -> tuple[list[str], list[tuple[int, int]]]:
        """Return pieces and the [start, end) characters of the text that each of them stands for."""
        raise NotImplementedError

    def _join(self, pieces: list[str]) -> tuple[str, list[tuple[int, int]]]:
        """Return the inverse of :meth:`_split`."""
        raise NotImplementedError


def join_words(words: Sequence[str], space_after: Sequence[bool]) -> str:
    """Return the text that words and spaces stand for; as of ``preprocess/``'s cleaning, on one line."""
    return "".join(word + " " if space else word for word, space in zip(words, space_after)).rstrip(" ")


def _word_ends(words: Sequence[str], space_after: Sequence[bool]) -> list[int]:
    """Return where each word ends in the text of :func:`join_words`, in characters."""
    ends = accumulate(len(word) + space for word, space in zip(words, space_after))
    return [end - space for end, space in zip(ends, space_after)]


def _prefix(words: Sequence[str], space_after: Sequence[bool], size: int) -> int:
    """Return how many words make a text of ``size`` characters or a little more, to end at a space if possible."""
    total = 0
    for number, (word, space) in enumerate(zip(words, space_after), start=1):
        total += len(word) + space
        if (total >= size and space) or total >= 2 * size:
            return number
    return len(words)


def _words_of(offsets: Sequence[tuple[int, int]], ends: Sequence[int]) -> tuple[int, ...]:
    """Return the word that each piece belongs to.

    That of its last character, or the next one where that is a space.
    """
    return tuple(min(bisect_right(ends, max(start, end - 1)), len(ends) - 1) for start, end in offsets)
