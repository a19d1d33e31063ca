"""Running one encoder layer on chunks of a document, if blocks attend to more than themselves (LSG).

All tokens must pass a layer before the next layer can begin, because global tokens attend to the whole document and
blocks to their neighbours. Only the input and output of each layer are kept at full length. With gradients, the
activations inside a chunk are recomputed in the backward pass.
"""

from __future__ import annotations

from typing import Any, Callable, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def forward_in_chunks(layer: Any, x: Tensor, padding_mask: Tensor | None, chunk: int) -> Tensor:
    """Run a layer in chunks: first the attention of the global tokens to all chunks, then each chunk with its halo.

    Args:
        layer: a :class:`~pyramidion_fairseq.models.encoder_layer.PyramidionEncoderLayer` with LSG attention.
        x: (B, G + T, C), global tokens first.
        padding_mask: (B, G + T) bool, True on padding; None if there is no padding.
        chunk: number of tokens per chunk, a multiple of the block size.

    Returns:
        (B, G + T, C).
    """
    attention, length = layer.self_attn, x.size(1)
    num_globals, halo = attention.num_global_tokens, attention.halo

    def columns(start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Return the global tokens and the tokens from ``start`` to ``stop``, with their mask."""
        tokens, mask = (
            None if part is None else torch.cat([part[:, :num_globals], part[:, start:stop]], dim=1)
            for part in (x, padding_mask)
        )
        assert tokens is not None  # only the mask may be None
        return tokens, mask

    def attend_globals(start: int, stop: int) -> Any:
        tokens, mask = columns(start, stop)
        return attention.attention_of_globals_in_chunk(layer.before_attention(tokens), mask, start == num_globals)

    def run(start: int, stop: int) -> Tensor:
        low, high = max(num_globals, start - halo), min(length, stop + halo)
        tokens, mask = columns(low, high)
        out = layer.forward_at_once(tokens, mask, None, document)
        if start == num_globals:  # the first chunk also returns the global tokens
            return out[:, :stop]
        return out[:, num_globals + start - low : num_globals + stop - low]

    pieces = [(start, min(start + chunk, length)) for start in range(num_globals, length, chunk)]
    document = attention.global_context([_checkpointed(attend_globals, *piece) for piece in pieces])
    return torch.cat([_checkpointed(run, *piece) for piece in pieces], dim=1)


def _checkpointed(compute: Callable[..., Result], *piece: int) -> Result:
    """Call a function that is called again in the backward pass, if gradients are enabled."""
    if not torch.is_grad_enabled():
        return compute(*piece)
    found: Result = checkpoint(compute, *piece, use_reentrant=False)
    return found
