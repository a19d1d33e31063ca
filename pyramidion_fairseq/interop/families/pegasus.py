"""PEGASUS (Zhang et al. 2020)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from torch import Tensor

from ...errors import PyramidionError
from ...utils.files import read_json_if_there
from .. import byte_level, dictionary_files
from ..bart import options
from ..state_changes import TensorChange
from .base import POSITIONS, Family, Vocabulary, check_size, sentencepieces

#: Options in which PEGASUS differs from BART.
PRE_NORM = {
    "encoder_normalize_before": True,
    "decoder_normalize_before": True,
    "layernorm_embedding": False,
    "prepend_bos": False,
    "summary_marker": "<s>",
}
#: The first pieces of the sentencepiece model: padding and the end of a text.
_FIRST = ("<pad>", "</s>")


class Pegasus(Family):
    """Pre-norm layers, no layer norm after the embedding, sinusoidal positions, and sentencepiece with an offset.

    PEGASUS starts generation from padding, which fairseq masks. Therefore, the row of padding becomes that of ``<s>``,
    a symbol that PEGASUS does not have. Padding gets the row of ``<unk_2>``, an unused symbol.
    """

    model_type = "pegasus"
    takes_dictionary = False
    start_row = 0
    #: The symbols of the first rows, before ``<unk_2>`` and so on.
    first_rows = ("<s>", "</s>", "<mask_1>", "<mask_2>")
    #: The row of our padding.
    padding_row = 4

    def from_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self.check_type(config)
        fixed = {"encoder_learned_pos": False, "decoder_learned_pos": False, "pegasus_positions": True}
        return options.common(config, self.title, {**PRE_NORM, **fixed})

    def vocabulary(self, folder: Path, size: int, bpe: byte_level.Bpe | None, given: Path | None = None) -> Vocabulary:
        offset = read_json_if_there(folder / "tokenizer_config.json").get("offset", 103)
        pieces = sentencepieces(given or folder)
        if not isinstance(offset, int) or offset < 3 or tuple(pieces[:3]) != (*_FIRST, "<unk>"):
            raise PyramidionError(
                f"the tokenizer of {folder} does not fit: the sentencepiece model of a {self.title} starts with "
                f"<pad>, </s> and <unk>, and its offset is at least 3 (it is {offset!r:.20})"
            )
        theirs = [*self.first_rows, *(f"<unk_{n}>" for n in range(2, offset)), *pieces[2:]]
        check_size(folder, len(theirs), size)
        theirs[self.padding_row] = "<pad>"
        return specials_first(theirs)

    def complete(self, state: dict[str, Tensor], given: Mapping[str, Any]) -> list[TensorChange]:
        """Drop the tables of positions, which are computed."""
        names = tuple(name for name in POSITIONS if state.pop(name, None) is not None)
        return [TensorChange(names, "left out", "sinusoidal positions, which are computed")] if names else []


def specials_first(theirs: list[str]) -> Vocabulary:
    """Return a vocabulary whose special symbols come first, from the symbol of each row of the embedding.

    Raises:
        PyramidionError: the symbols cannot be those of a dictionary.
    """
    dictionary_files.check_dictionary(theirs)
    row = {symbol: number for number, symbol in enumerate(theirs)}
    rest = [symbol for symbol in theirs if symbol not in dictionary_files.SPECIALS]
    symbols = [*dictionary_files.SPECIALS, *rest]
    return Vocabulary(symbols, [row[symbol] for symbol in symbols])
