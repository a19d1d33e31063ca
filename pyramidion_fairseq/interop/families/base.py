"""Base class and helpers of families of pretrained encoder-decoders."""

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
from ...utils.files import read_json_if_there
from .. import byte_level
from ..bart.names import EMBEDDINGS, from_hugging_face
from ..state_changes import TensorChange
from . import TITLES

POSITIONS = ("encoder.embed_positions.weight", "decoder.embed_positions.weight")
#: Number of rows before that of the first token in fairseq's tables of learned positions.
OFFSET = 2


class Vocabulary(NamedTuple):
    """The symbols of a model."""

    symbols: list[str]
    """One symbol per row of the converted embedding, starting with the four special ones."""
    rows: list[int] | None = None
    """Row of the pretrained embedding for each row of the converted one; None if they are the same."""


class Family:
    """A family of models in transformers, and possibly in fairseq. The defaults are those of BART."""

    #: ``model_type`` in config.json, and name of the command.
    model_type: ClassVar[str]
    #: (Pattern, replacement) pairs that map names of tensors, without a leading "model.", to fairseq's.
    renames: ClassVar[tuple[tuple[str, str], ...]] = ()
    #: Pattern of tensors that are dropped, and a description of them.
    left_out: ClassVar[tuple[str, str] | None] = None
    #: Number of rows before that of the first token in tables of learned positions.
    offset: ClassVar[int] = OFFSET
    #: Whether the symbols of a Hugging Face directory may be read from a dict.txt.
    takes_dictionary: ClassVar[bool] = True
    #: Whether generation_config.json is converted to generation.json.
    keeps_generation: ClassVar[bool] = True
    #: ``decoder_start_token_id`` of all models of the family; None if it differs between them.
    start_row: ClassVar[int | None] = 2

    @property
    def title(self) -> str:
        """Return the display name."""
        return TITLES[self.model_type][0]

    def from_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return fields of PyramidionConfig from a config.json; PyramidionError for another kind of model."""
        raise NotImplementedError

    def from_fairseq(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return fields of PyramidionConfig from a fairseq checkpoint's arguments; PyramidionError as above."""
        raise PyramidionError(f"fairseq has no {self.title}: give a Hugging Face directory")

    def vocabulary(self, folder: Path, size: int, bpe: byte_level.Bpe | None, given: Path | None = None) -> Vocabulary:
        """Return the symbols of a Hugging Face directory.

        Args:
            folder: the directory.
            size: number of rows of the embedding.
            bpe: the byte-level BPE.
            given: the sentencepiece model, or a folder with one, if it is not in the directory.

        Raises:
            PyramidionError: the tokenizer is missing or does not fit.
        """
        return Vocabulary(byte_level.symbols_from_rows(byte_level.hugging_face_rows(folder), size, bpe))

    def fairseq_symbols(self, known: list[str], size: int, args: Mapping[str, Any]) -> list[str]:
        """Return the symbols of a fairseq checkpoint: those of dict.txt, and those that its task adds."""
        return known

    def fairseq_markers(self, args: Mapping[str, Any], symbols: list[str]) -> dict[str, Any]:
        """Return options that depend on the symbols, for a checkpoint of fairseq's own models."""
        return {}

    def markers(self, folder: Path, config: Mapping[str, Any], symbols: list[str]) -> dict[str, Any]:
        """Return options that depend on the symbols, for a Hugging Face directory.

        Raises:
            PyramidionError: generation starts from another symbol than in this package.
        """
        row = generation_start(folder, config)
        if self.start_row is not None and row not in (None, self.start_row):
            raise PyramidionError(
                f"cannot convert a {self.title} with decoder_start_token_id={row!r:.20}: only {self.start_row} is "
                "supported"
            )
        return {}

    def check_options(self, given: Mapping[str, Any]) -> None:
        """Refuse options, including those given by the user, that the family does not support."""

    def check_type(self, config: Mapping[str, Any]) -> None:
        """Refuse the config.json of another family, with an error that names it."""
        kind = config.get("model_type")
        if kind == self.model_type:
            return
        others = f": convert it with 'pyramidion-convert {kind}'" if kind in TITLES else ""
        raise PyramidionError(f"not a {self.title}: model_type is {kind!r}{others}")

    def tensors(
        self, state: Mapping[str, Tensor], given: Mapping[str, Any]
    ) -> tuple[dict[str, Tensor], list[TensorChange]]:
        """Return a Hugging Face model's tensors by fairseq's names, and the changes.

        Args:
            state: the saved tensors.
            given: the result of :meth:`from_config`.

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

    def complete(self, state: dict[str, Tensor], given: Mapping[str, Any]) -> list[TensorChange]:
        """Add tensors that only this package's models have, or drop others, in place; return the changes."""
        return []

    def _leave_out(self, state: dict[str, Tensor]) -> list[TensorChange]:
        if self.left_out is None:
            return []
        pattern, what = self.left_out
        names = tuple(name for name in state if re.search(pattern, name))
        for name in names:
            del state[name]
        return [TensorChange(names, "left out", f"left out {len(names)} tensors: {what}")] if names else []

    def _shift_positions(self, state: dict[str, Tensor]) -> list[TensorChange]:
        """Insert unused rows before the positions if the family has fewer than fairseq."""
        missing, names = OFFSET - self.offset, tuple(name for name in POSITIONS if name in state)
        if not missing or not names:
            return []
        for name in names:
            weight = state[name]
            state[name] = torch.cat([weight.new_zeros(missing, *weight.shape[1:]), weight])
        text = f"{missing} rows of zeros before the positions, which fairseq leaves for padding"
        return [TensorChange(names, "shifted", text)]


def generation_start(folder: Path, config: Mapping[str, Any], key: str = "decoder_start_token_id") -> Any:
    """Return a row from generation_config.json, or from config.json if it is not there; None if in neither."""
    return read_json_if_there(folder / "generation_config.json").get(key, config.get(key))


def reorder(state: dict[str, Tensor], rows: list[int]) -> TensorChange:
    """Reorder the rows of the embedding to the order of the dictionary, in place."""
    index = torch.tensor(rows)
    embedding = state[EMBEDDINGS[0]][index]
    state.update({name: embedding for name in EMBEDDINGS})
    text = f"{len(rows):,} rows of the embedding, each as it was, in the order of the dictionary"
    return TensorChange(EMBEDDINGS, "reordered", text)


def sentencepieces(place: Path) -> list[str]:
    """Return all pieces of a sentencepiece model, which is a file or in a directory, in the order of their ids.

    Raises:
        PyramidionError: there is no such model, or it is damaged.
    """
    path = str(place) if place.is_file() else next(vocabularies.sentencepiece_in([str(place)]), None)
    if path is None:
        names = ", ".join(vocabularies.SENTENCEPIECE)
        raise PyramidionError(f"{place} has no sentencepiece model ({names}): give its path with --bpe")
    return SentencepieceTokenizer.from_file(Dictionary(), path).pieces


def check_size(folder: Path, symbols: int, size: int) -> None:
    """Refuse a tokenizer whose size differs from that of the embedding."""
    if symbols != size:
        raise PyramidionError(
            f"the tokenizer of {folder} does not fit: it has {symbols:,} symbols, but the model's "
            f"embedding {size:,} rows"
        )
