"""Tokenizers for words and for sentencepiece models, and the choice of a checkpoint's tokenizer."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Sequence

from ..errors import PyramidionError
from .byte_level import ByteLevelTokenizer
from .pieces import WORD_START, are_sentencepiece
from .tokenizer import Tokenizer


class WordTokenizer(Tokenizer):
    """Splits at white space, for corpora that are already tokenized."""

    def _split(self, text: str) -> tuple[list[str], list[tuple[int, int]]]:
        pieces = text.split()
        return pieces, _offsets(pieces, gap=1)

    def _join(self, pieces: list[str]) -> tuple[str, list[tuple[int, int]]]:
        return " ".join(pieces), _offsets(pieces, gap=1)


class SentencepieceTokenizer(Tokenizer):
    """Tokenizer of a sentencepiece model.

    Args:
        dictionary: fairseq dictionary of the model's pieces.
        processor: a ``sentencepiece.SentencePieceProcessor``.
    """

    def __init__(self, dictionary: Any, processor: Any):
        super().__init__(dictionary)
        self.processor = processor

    @classmethod
    def from_file(cls, dictionary: Any, path: str) -> SentencepieceTokenizer:
        """Load a sentencepiece model from its file.

        Raises:
            PyramidionError: the file cannot be read or is not a sentencepiece model.
        """
        import sentencepiece

        try:
            with open(path, "rb") as file:  # sentencepiece cannot open files whose names are not UTF-8
                content = file.read()
            return cls(dictionary, sentencepiece.SentencePieceProcessor(model_proto=content or b"nothing"))
        except (OSError, RuntimeError):
            raise PyramidionError(f"{path} is not a sentencepiece model, or cannot be read") from None

    @property
    def pieces(self) -> list[str]:
        """All pieces of the model, by their ids."""
        return [self.processor.id_to_piece(number) for number in range(self.processor.get_piece_size())]

    def count_known_pieces(self) -> tuple[int, int]:
        """Return how many of the model's pieces are in the dictionary, and how many pieces the model has."""
        pieces = self.pieces
        return sum(piece in self.dictionary.indices for piece in pieces), len(pieces)

    def _split(self, text: str) -> tuple[list[str], list[tuple[int, int]]]:
        try:
            found = self.processor.encode(text, out_type="offset_mapping")
            return found["pieces"], found["offsets"]
        except ValueError:  # sentencepiece before 0.2.2
            pieces = self.processor.encode(text, out_type="immutable_proto").pieces
            return [piece.piece for piece in pieces], [(piece.begin, piece.end) for piece in pieces]

    def _join(self, pieces: list[str]) -> tuple[str, list[tuple[int, int]]]:
        text = "".join(pieces).replace(WORD_START, " ")
        leading = len(text) - len(text.lstrip())
        offsets = [(max(0, start - leading), max(0, end - leading)) for start, end in _offsets(pieces, gap=0)]
        return text.strip(), offsets


def build_tokenizer(dictionary: Any, bpe: Any) -> Tokenizer:
    """Create the tokenizer of a checkpoint.

    Args:
        dictionary: the checkpoint's fairseq dictionary.
        bpe: fairseq's BPE object, or None.

    Raises:
        PyramidionError: ``bpe`` is not supported, or it is None although the dictionary has sentencepiece pieces.
    """
    processor = getattr(bpe, "sp", None)
    if processor is not None:
        return SentencepieceTokenizer(dictionary, processor)
    if hasattr(getattr(bpe, "bpe", None), "byte_encoder"):
        return ByteLevelTokenizer(dictionary, bpe.bpe)
    if bpe is not None:
        raise PyramidionError(f"{type(bpe).__name__} is not supported: use bpe sentencepiece or gpt2, or none")
    if are_sentencepiece(dictionary.symbols):
        raise PyramidionError(
            "the dictionary has the pieces of a sentencepiece model: give the model's file with --sentencepiece-model "
            '(from Python: bpe="sentencepiece", sentencepiece_model=...)'
        )
    return WordTokenizer(dictionary)


def _offsets(pieces: Sequence[str], gap: int) -> list[tuple[int, int]]:
    ends = list(accumulate(len(piece) + gap for piece in pieces))
    return [(end - gap - len(piece), end - gap) for end, piece in zip(ends, pieces)]
