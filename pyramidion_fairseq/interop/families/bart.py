"""BART (Lewis et al. 2020)."""

from __future__ import annotations

from typing import Any, Mapping

from ..bart import options
from .base import Family


class Bart(Family):
    """Post-norm, learned positions, a byte-level BPE: what the other families are told by."""

    model_type = "bart"
    keeps_generation = False

    def from_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        if "pyramidion" not in config:  # our own export says it otherwise
            self.check_type(config)
        return options.from_config(config)

    def from_fairseq(self, args: Mapping[str, Any]) -> dict[str, Any]:
        return options.from_fairseq(args)
