"""Scaled dot-product attention (Vaswani et al. 2017, Eq. 1), including dropout on a CPU."""

from __future__ import annotations

from typing import Any, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..dropout import draw_kept, draws_bits, kept_share

#: Number of attention weights processed at a time, so that they and their gradients stay in the processor's cache.
CHUNK = 2**21
#: Minimum number of queries processed at a time.
FEWEST = 128


def dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Compute scaled dot-product attention.

    Calls torch's function, except on a CPU with dropout, where torch would hold all attention weights several times.
    In this case, the queries are processed in chunks, and their weights are recomputed in the backward pass. One byte
    is kept per weight: whether it was dropped.

    Args:
        query: (N, H, Tq, D).
        key, value: (N, H, Tk, D).
        attn_mask: (N, 1, 1, Tk) or (N, H, 1, Tk) bool, True on keys that take part; None if all do. The result is
            undefined, and may be NaN, if no key takes part.
        dropout: dropout probability of the attention weights; 0 in evaluation. Rounded to a multiple of 1 / 65536 on a
            CPU.

    Returns:
        (N, H, Tq, D).
    """
    if not draws_bits(query, dropout):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, dropout_p=dropout)
    if torch.is_autocast_enabled("cpu"):  # autocast does not apply to this autograd function
        low = torch.get_autocast_dtype("cpu")
        query, key, value = (x.to(low) if x.dtype == torch.float32 else x for x in (query, key, value))
    return _DropoutAttention.apply(query, key, value, attn_mask, dropout)


class _DropoutAttention(torch.autograd.Function):
    """Attention in chunks of queries, holding about CHUNK attention weights at a time."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, dropout: float
    ) -> Tensor:
        ctx.share = kept_share(dropout)
        kept = draw_kept((*query.shape[:3], key.size(2)), dropout)
        kept = kept.view(torch.uint8)  # torch multiplies bytes faster than bools
        # Stored as (N, Tq, H, D), so that joining the heads needs no copy.
        out = value.new_empty(query.size(0), query.size(2), *value.shape[1::2]).transpose(1, 2)
        for part, rows in _chunks(kept.shape):
            weights = _weights(query[part, :, rows], key[part], attn_mask, part).mul_(kept[part, :, rows])
            out[part, :, rows] = (weights.to(value.dtype) @ value[part]).div_(ctx.share)
        ctx.save_for_backward(query, key, value, attn_mask, kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, attn_mask, kept = ctx.saved_tensors
        d_query, d_key, d_value = (torch.zeros_like(x) for x in (query, key, value))
        for part, rows in _chunks(kept.shape):
            queries = query[part, :, rows]
            grads = grad[part, :, rows] / ctx.share
            keeps = kept[part, :, rows]
            weights = _weights(queries, key[part], attn_mask, part)
            d_value[part] += (weights * keeps).to(grad.dtype).mT @ grads
            d_weights = (grads @ value[part].mT).to(weights.dtype).mul_(keeps)
            d_logits = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype).to(query.dtype)
            d_query[part, :, rows] = d_logits @ key[part]
            d_key[part] += d_logits.mT @ queries
        scale = query.size(3) ** -0.5
        return d_query.mul_(scale), d_key.mul_(scale), d_value, None, None


def _weights(query: Tensor, key: Tensor, attn_mask: Tensor | None, part: slice) -> Tensor:
    """Compute attention weights, at least float32: (n, H, R, D), (n, H, Tk, D) -> (n, H, R, Tk)."""
    logits = (query * query.size(3) ** -0.5) @ key.mT
    if attn_mask is not None:
        logits = logits.masked_fill_(~attn_mask[part], -torch.inf)
    return logits.softmax(dim=3, dtype=torch.promote_types(logits.dtype, torch.float32))


def _chunks(shape: torch.Size) -> Iterator[tuple[slice, slice]]:
    """Yield slices of the first and the third dimension of (N, H, Tq, Tk)."""
    count, heads, queries, keys = shape
    # Products with fewer queries are slow, so long sequences exceed CHUNK.
    rows = min(queries, max(FEWEST, CHUNK // (heads * keys)))
    sequences = max(1, CHUNK // (heads * rows * keys))
    for start in range(0, count, sequences):
        for row in range(0, queries, rows):
            yield slice(start, start + sequences), slice(row, row + rows)
