"""What families of pretrained encoder-decoders share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Mapping, NamedTuple

import torch
from fairseq.data import Dictionary
from torch import Tensor

from ... import vocabularies
from ...errors import PyramidionError
from ...text.tokenizers import SentencepieceTokenizer
from .. import byte_level
from ..bart.names import EMBEDDINGS, from_hugging_face
from ..state_changes import Change
from . import TITLES

POSITIONS = ("encoder.embed_positions.weight", "decoder.embed_positions.weight")
#: Rows that fairseq's learned positions have before that of the first token.
OFFSET = 2


class Vocabulary(NamedTuple):
    """The symbols of a model."""

    symbols: list[str]
    """One for each row of our embedding, the four special ones first."""
    rows: list[int] | None = None
    """The row of the pretrained embedding for each of ours; None where they are the same."""


class Family:
    """What a family is in transformers, and in fairseq where it is there; BART's ways unless a family has its own."""

    #: Of config.json, and the name of the command.
    model_type: ClassVar[str]
    #: Names of tensors: a pattern, and what stands there in fairseq. "model." in front is gone already.
    renames: ClassVar[tuple[tuple[str, str], ...]] = ()
    #: Names of tensors that we have no place for: a pattern, and what they are.
    left_out: ClassVar[tuple[str, str] | None] = None
    #: Rows that its learned positions have before that of the first token.
    offset: ClassVar[int] = OFFSET
    #: Whether a dict.txt may tell the symbols of a Hugging Face directory.
    takes_dictionary: ClassVar[bool] = True
    #: Whether generation_config.json becomes generation.json.
    keeps_generation: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """Return the name for people."""
        return TITLES[self.model_type][0]

    def from_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return fields of PyramidionConfig of a config.json; PyramidionError where it is another kind of model."""
        raise NotImplementedError

    def from_fairseq(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return fields of PyramidionConfig of a fairseq checkpoint's arguments; PyramidionError as above."""
        raise PyramidionError(f"fairseq has no {self.title}: give a Hugging Face directory")

    def vocabulary(self, folder: Path, size: int, bpe: byte_level.Bpe | None, given: Path | None = None) -> Vocabulary:
        """Return the symbols of a Hugging Face directory.

        Args:
            folder: the directory.
            size: rows of its embedding.
            bpe: its byte-level BPE.
            given: the sentencepiece model, or a folder with one, where it is elsewhere.

        Raises:
            PyramidionError: its tokenizer is missing or does not fit.
        """
        return Vocabulary(byte_level.symbols_from_rows(byte_level.hugging_face_rows(folder), size, bpe))

    def fairseq_symbols(self, known: list[str], size: int, args: Mapping[str, Any]) -> list[str]:
        """Return the symbols of a fairseq checkpoint: those of dict.txt, and what its task adds to fill the rows."""
        return known

    def fairseq_markers(self, args: Mapping[str, Any], symbols: list[str]) -> dict[str, Any]:
        """Return options that depend on the symbols, of a fairseq checkpoint that is not ours."""
        return {}

    def markers(self, folder: Path, config: Mapping[str, Any], symbols: list[str]) -> dict[str, Any]:
        """Return options that depend on the symbols, of a Hugging Face directory."""
        return {}

    def check(self, given: Mapping[str, Any]) -> None:
        """Refuse options, those that the user chose included, with which the family cannot be used."""

    def check_type(self, config: Mapping[str, Any]) -> None:
        """Refuse the config.json of another family; says which."""
        kind = config.get("model_type")
        if kind == self.model_type:
            return
        others = f": convert it with 'pyramidion-convert {kind}'" if kind in TITLES else ""
        raise PyramidionError(f"not a {self.title}: model_type is {kind!r}{others}")

    def tensors(self, state: Mapping[str, Tensor], given: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[Change]]:
        """Return a Hugging Face model's tensors by fairseq's names, and what was done to them.

        Args:
            state: as saved.
            given: what :meth:`from_config` returned.

        Raises:
            PyramidionError: there is no embedding, its copies differ, or logits have a bias.
        """
        named: dict[str, Tensor] = {}
        for name, tensor in state.items():
            short = re.sub(r"^(model|led)\.", "", name)
            for pattern, new in self.renames:
                short = re.sub(pattern, new, short)
            if short in named:
                raise PyramidionError(f"the tensors do not fit: {name} is there twice")
            named[short] = tensor
        changes = self._leave_out(named)
        found = from_hugging_face(named, self.title)
        return found, [*changes, *self._shift_positions(found), *self.complete(found, given)]

    def complete(self, state: dict[str, Tensor], given: Mapping[str, Any]) -> list[Change]:
        """Add what only our model has, in place; return what was done."""
        return []

    def _leave_out(self, state: dict[str, Tensor]) -> list[Change]:
        if self.left_out is None:
            return []
        pattern, what = self.left_out
        names = tuple(name for name in state if re.search(pattern, name))
        for name in names:
            del state[name]
        return [Change(names, "left out", f"left out {len(names)} tensors: {what}")] if names else []

    def _shift_positions(self, state: dict[str, Tensor]) -> list[Change]:
        """Put rows without use before the positions, where the family has fewer than fairseq."""
        missing, names = OFFSET - self.offset, tuple(name for name in POSITIONS if name in state)
        if not missing or not names:
            return []
        for name in names:
            weight = state[name]
            state[name] = torch.cat([weight.new_zeros(missing, *weight.shape[1:]), weight])
        text = f"{missing} rows of zeros before the positions, which fairseq leaves for padding"
        return [Change(names, "shifted", text)]


def reorder(state: dict[str, Tensor], rows: list[int]) -> Change:
    """Put the rows of the embedding into the order of our dictionary, in place."""
    index = torch.tensor(rows)
    embedding = state[EMBEDDINGS[0]][index]
    state.update({name: embedding for name in EMBEDDINGS})
    text = f"{len(rows):,} rows of the embedding, each as it was, in the order of the dictionary"
    return Change(EMBEDDINGS, "reordered", text)


def sentencepieces(place: Path) -> list[str]:
    """Return all pieces of a sentencepiece model, by their numbers: of a file, or of that in a directory.

    Raises:
        PyramidionError: there is none, or it is damaged.
    """
    path = str(place) if place.is_file() else next(vocabularies.sentencepiece_in([str(place)]), None)
    if path is None:
        names = ", ".join(vocabularies.SENTENCEPIECE)
        raise PyramidionError(f"{place} has no sentencepiece model ({names}): say with --bpe where it is")
    return SentencepieceTokenizer.from_file(Dictionary(), path).pieces


def check_size(folder: Path, symbols: int, size: int) -> None:
    """Refuse a tokenizer that does not fit the embedding."""
    if symbols != size:
        raise PyramidionError(
            f"the tokenizer of {folder} does not fit: it has {symbols:,} symbols, the model's embedding {size:,} rows"
        )
