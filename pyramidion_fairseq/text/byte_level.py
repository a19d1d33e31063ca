"""GPT-2's byte-level BPE, as used by BART: words to tokens and back."""

from __future__ import annotations

import os
from itertools import accumulate
from typing import Any, Iterable, Iterator

from ..errors import PyramidionError
from .tokenizer import Tokenizer

#: File names of a byte-level BPE.
BYTE_LEVEL = ("encoder.json", "vocab.bpe")


def is_byte_level(dictionary: Any) -> bool:
    """Return whether the symbols of a fairseq dictionary are the ids of GPT-2's tokens."""
    symbols = dictionary.symbols[dictionary.nspecial :]
    return 2 * sum(symbol.isdigit() for symbol in symbols) > len(symbols)


def byte_level_in(folders: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Return the files of byte-level BPEs in the given folders, found by name, if both files exist."""
    found = (tuple(os.path.join(folder, name) for name in BYTE_LEVEL) for folder in folders)
    return (paths for paths in found if all(map(os.path.isfile, paths)))


def check_numbers(symbols: Iterable[str], numbers: Iterable[int], where: object, remedy: str) -> None:
    """Check that a byte-level BPE has every token of a dictionary; the dictionary may lack tokens of the BPE.

    Args:
        symbols: symbols of the dictionary.
        numbers: ids of the BPE's tokens.
        where: folder or file of the BPE, for the message.
        remedy: what the user can do, for the message.

    Raises:
        PyramidionError: the BPE lacks tokens of the dictionary.
    """
    known = set(map(str, numbers))
    given = [symbol for symbol in symbols if symbol.isdigit()]
    unknown = [symbol for symbol in given if symbol not in known]
    if unknown:
        raise PyramidionError(
            f"{where} belongs to another model: the byte-level BPE lacks {len(unknown):,} of the dictionary's "
            f"{len(given):,} tokens, such as {unknown[0][:20]}; {remedy}"
        )


class ByteLevelTokenizer(Tokenizer):
    """Tokenizer of a byte-level BPE.

    Args:
        dictionary: fairseq dictionary whose symbols are the ids of the BPE's tokens.
        encoder: fairseq's ``gpt2_bpe_utils.Encoder``.
    """

    def __init__(self, dictionary: Any, encoder: Any):
        super().__init__(dictionary)
        self.encoder = encoder

    def _split(self, text: str) -> tuple[list[str], list[tuple[int, int]]]:
        numbers = self.encoder.encode(text)
        ends = list(accumulate(len(self.encoder.decoder[number]) for number in numbers))
        return list(map(str, numbers)), _characters(text, [0, *ends])

    def _join(self, pieces: list[str]) -> tuple[str, list[tuple[int, int]]]:
        data, ends = bytearray(), [0]
        for piece in pieces:
            data += self._bytes(piece)
            ends.append(len(data))
        leading = len(data) - len(data.lstrip())
        text = bytes(data).strip().decode("utf-8", errors="replace")
        if len(text.encode("utf-8")) == len(data.strip()):  # False for invalid UTF-8
            return text, _characters(text, [min(max(0, end - leading), len(data.strip())) for end in ends])
        # Invalid UTF-8 has been replaced: byte offsets approximate those of characters.
        return text, [(min(start, len(text)), min(end, len(text))) for start, end in zip(ends, ends[1:])]

    def _bytes(self, piece: str) -> bytes:
        """Return the bytes of a symbol of the dictionary; other symbols than the BPE's are encoded as text."""
        token = self.encoder.decoder.get(int(piece)) if piece.isdigit() else None
        if token is None or any(character not in self.encoder.byte_decoder for character in token):
            return piece.encode("utf-8") if token is None else token.encode("utf-8")
        return bytes(self.encoder.byte_decoder[character] for character in token)


def _characters(text: str, ends: list[int]) -> list[tuple[int, int]]:
    """Return the [start, end) characters of pieces, given the byte offsets of their ends.

    A character that is split between two pieces belongs to both.
    """
    starts_at, number = [], 0
    for number, character in enumerate(text):
        starts_at += [number] * len(character.encode("utf-8"))
    starts_at.append(len(text))
    spans = []
    for start, end in zip(ends, ends[1:]):
        first = starts_at[start]
        last = starts_at[end - 1] + 1 if end > start else first
        spans.append((first, last))
    return spans
