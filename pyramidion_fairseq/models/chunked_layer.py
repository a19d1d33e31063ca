"""One layer of the encoder on some tokens of a document at a time, where blocks see more than themselves (LSG).

Before a layer can begin, all tokens must have been through the layer before it: global tokens read the whole document,
and a block its neighbours. What is kept of full length is what goes into a layer and what comes out of it. With
gradients, what is inside of a chunk is computed again in the backward pass.
"""

from __future__ import annotations

from typing import Any, Callable, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def forward_in_chunks(layer: Any, x: Tensor, padding_mask: Tensor | None, chunk: int) -> Tensor:
    """Run a layer: its global tokens read all chunks, then each chunk is read with what its blocks see beside it.

    Args:
        layer: a :class:`~pyramidion_fairseq.models.encoder_layer.PyramidionEncoderLayer` with LSG attention.
        x: (B, G + T, C), global tokens first.
        padding_mask: (B, G + T) bool, True on padding; None if there is no padding.
        chunk: tokens, a multiple of the block.

    Returns:
        (B, G + T, C).
    """
    attention, length = layer.self_attn, x.size(1)
    first, halo = attention.globals, attention.halo

    def columns(start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Return the global tokens and those from ``start`` to ``stop``, with their mask."""
        tokens, mask = (
            None if part is None else torch.cat([part[:, :first], part[:, start:stop]], dim=1)
            for part in (x, padding_mask)
        )
        assert tokens is not None  # only a mask may be
        return tokens, mask

    def attend_globals(start: int, stop: int) -> Any:
        tokens, mask = columns(start, stop)
        return attention.attention_of_globals_in_chunk(layer.before_attention(tokens), mask, start == first)

    def run(start: int, stop: int) -> Tensor:
        low, high = max(first, start - halo), min(length, stop + halo)
        tokens, mask = columns(low, high)
        out = layer.forward_at_once(tokens, mask, None, document)
        return out[:, first + start - low : first + stop - low] if start > first else out[:, :stop]

    pieces = [(start, min(start + chunk, length)) for start in range(first, length, chunk)]
    document = attention.global_context([_recomputed(attend_globals, *piece) for piece in pieces])
    return torch.cat([_recomputed(run, *piece) for piece in pieces], dim=1)


def _recomputed(compute: Callable[..., Result], *piece: int) -> Result:
    """Return what a function returns, which is called again in the backward pass, where there is one."""
    if not torch.is_grad_enabled():
        return compute(*piece)
    found: Result = checkpoint(compute, *piece, use_reentrant=False)
    return found
