"""BigBird-PEGASUS (Zaheer et al. 2020)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import torch
from torch import Tensor

from ...errors import PyramidionError
from .. import byte_level
from ..bart import options
from ..state_changes import TensorChange
from .base import Vocabulary, check_size, sentencepieces
from .pegasus import PRE_NORM, Pegasus, specials_first

#: Defaults of transformers, for fields missing in config.json, that differ from those of the other families.
_DEFAULTS = {"activation_function": "gelu_new", "scale_embedding": True}
_ATTENTION = r"self_attn\.self\.(q|k|v)(?:uery|ey|alue)\."


class BigBirdPegasus(Pegasus):
    """PEGASUS with learned positions and block-sparse attention without biases. Generation starts from ``<s>``.

    Its attention's random blocks have no counterpart in LSG attention, which has sparse tokens instead.
    """

    model_type = "bigbird_pegasus"
    renames = (
        (_ATTENTION, r"self_attn.\1_proj."),
        (r"self_attn\.output\.", "self_attn.out_proj."),
        (r"^(encoder|decoder)\.layernorm_embedding\.", r"\1.layer_norm."),  # despite its name, the last layer norm
    )
    offset = 0
    start_row = 2
    first_rows = ("<pad>", "</s>", "<s>", "<mask_2>")
    padding_row = 0

    def from_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self.check_type(config)
        return options.common({**_DEFAULTS, **config}, self.title, PRE_NORM)

    def vocabulary(self, folder: Path, size: int, bpe: byte_level.Bpe | None, given: Path | None = None) -> Vocabulary:
        """Return the symbols. In published models, each piece's number is its row; otherwise, rows are PEGASUS's."""
        pieces = sentencepieces(given or folder)
        if tuple(pieces[:3]) != self.first_rows[:3]:
            return super().vocabulary(folder, size, bpe, given)
        check_size(folder, len(pieces), size)
        if "<unk>" not in pieces:
            raise PyramidionError(f"the sentencepiece model of {folder} does not fit: it has no <unk>")
        return specials_first(pieces)

    def complete(self, state: dict[str, Tensor], given: Mapping[str, Any]) -> list[TensorChange]:
        """Add zero biases to attention layers that have none."""
        missing = {}
        for name in list(state):
            stem, _, last = name.rpartition("_proj.weight")
            if last == "" and stem.endswith(("attn.q", "attn.k", "attn.v", "attn.out")):
                bias = f"{stem}_proj.bias"
                if bias not in state:
                    missing[bias] = torch.zeros_like(state[name][:, 0])
        state.update(missing)
        text = f"{len(missing)} biases of attention, all zero, because the model has none"
        return [TensorChange(tuple(missing), "new", text)] if missing else []
