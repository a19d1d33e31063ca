"""BART (Lewis et al. 2020)."""

from __future__ import annotations

from typing import Any, Mapping

from ..bart import options
from .base import Family


class Bart(Family):
    """Post-norm layers, learned positions and a byte-level BPE. Other families are described by their differences."""

    model_type = "bart"
    keeps_generation = False

    def from_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        if "pyramidion" not in config:  # our own export has a model_type of its own
            self.check_type(config)
        return options.from_config(config)

    def from_fairseq(self, args: Mapping[str, Any]) -> dict[str, Any]:
        return options.from_fairseq(args)
