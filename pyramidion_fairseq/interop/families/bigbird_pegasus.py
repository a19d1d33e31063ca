"""BigBird-PEGASUS (Zaheer et al. 2020)."""

from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import Tensor

from ..bart import options
from ..state_changes import Change
from .pegasus import PRE_NORM, Pegasus

#: What transformers takes where config.json does not say it, and is not as of the other families.
_DEFAULTS = {"activation_function": "gelu_new", "scale_embedding": True}
_ATTENTION = r"self_attn\.self\.(q|k|v)(?:uery|ey|alue)\."


class BigBirdPegasus(Pegasus):
    """PEGASUS with learned positions, block-sparse attention without biases, and ``<s>`` to write summaries from.

    The random blocks of its attention have no counterpart: LSG's sparse tokens take their place.
    """

    model_type = "bigbird_pegasus"
    renames = (
        (_ATTENTION, r"self_attn.\1_proj."),
        (r"self_attn\.output\.", "self_attn.out_proj."),
        (r"^(encoder|decoder)\.layernorm_embedding\.", r"\1.layer_norm."),  # it stands at the end, whatever its name
    )
    offset = 0
    first_rows = ("<pad>", "</s>", "<s>", "<mask_2>")
    padding_row = 0

    def from_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self.check_type(config)
        return options.common({**_DEFAULTS, **config}, self.title, PRE_NORM)

    def complete(self, state: dict[str, Tensor], given: Mapping[str, Any]) -> list[Change]:
        """Add the biases of attention, which are zero, where the model has none."""
        missing = {}
        for name in list(state):
            stem, _, last = name.rpartition("_proj.weight")
            if last == "" and stem.endswith(("attn.q", "attn.k", "attn.v", "attn.out")):
                bias = f"{stem}_proj.bias"
                if bias not in state:
                    missing[bias] = torch.zeros_like(state[name][:, 0])
        state.update(missing)
        text = f"{len(missing)} biases of attention, which are zero: the model has none"
        return [Change(tuple(missing), "new", text)] if missing else []
