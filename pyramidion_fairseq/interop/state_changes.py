"""Changes of a checkpoint's tensors that make them fit a longer or pooled model."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from ..errors import PyramidionError
from .lengthen import spread_scorer, tile_positions

logger = logging.getLogger(__name__)


class TensorChange(NamedTuple):
    """A change of a state dict."""

    names: tuple[str, ...]
    """Names of the tensors."""
    kind: str
    """"tiled", "cut", "new", "left out", "shifted", "reordered", "moved", "summed" or "copied"."""
    text: str
    """A description of one line."""


def fit_positions(state: dict[str, Tensor], name: str, rows: int, offset: int) -> list[TensorChange]:
    """Repeat or truncate a table of positions in place, if it exists with another length.

    Args:
        state: a state dict.
        name: name of the table.
        rows: number of rows of the result, including ``offset``.
        offset: number of rows before that of the first token.
    """
    if name not in state or state[name].size(0) == rows:
        return []
    before, after = state[name].size(0) - offset, rows - offset
    state[name] = tile_positions(state[name], rows, offset)
    kind, verb = ("tiled", "repeated") if after > before else ("cut", "cut")
    return [TensorChange((name,), kind, f"{name}: {before:,} positions {verb} to {after:,}")]


def add_scorers(encoder: Any, state: dict[str, Tensor], prefix: str) -> list[TensorChange]:
    """Add the scorers that a state dict lacks, in place: see :func:`.lengthen.spread_scorer`.

    Args:
        encoder: the encoder that will load the tensors.
        state: a state dict.
        prefix: prefix of the encoder's tensors.
    """
    changes = []
    for layer, pooling in encoder.poolings.items():
        start = f"{prefix}poolings.{layer}.scorer."
        known = any(name.startswith(start) for name in state)
        if not state or known or pooling.scorer is None or not list(pooling.scorer.parameters()):
            continue
        norm = f"{prefix}layers.{int(layer) - 1}.final_layer_norm."
        if hasattr(pooling.scorer, "proj") and not encoder.cfg.encoder.normalize_before and norm + "weight" in state:
            spread_scorer(pooling.scorer, state[norm + "weight"], state[norm + "bias"])
        text = f"new scorer of the pooling after layer {layer}"
        changes.append(TensorChange(add_tensors(state, start, pooling.scorer), "new", text))
    return changes


def add_tensors(state: dict[str, Tensor], prefix: str, module: nn.Module) -> tuple[str, ...]:
    """Add a module's tensors in the dtype of the others, and return their names."""
    dtype = next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), torch.float32)
    made = {prefix + name: value.detach().to(dtype) for name, value in module.state_dict().items()}
    state.update(made)
    return tuple(made)


def log_changes(changes: list[TensorChange]) -> list[TensorChange]:
    """Log and return changes."""
    for change in changes:
        logger.info(change.text)
    return changes


def refuse(message: str) -> NoReturn:
    """Raise PyramidionError, and log its message, which fairseq's trainer would hide."""
    logger.error(message)
    raise PyramidionError(message)
