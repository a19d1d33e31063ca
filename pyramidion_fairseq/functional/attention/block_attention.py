"""Attention inside non-overlapping blocks (paper, section 3.1), with no work on padding."""

from __future__ import annotations

from itertools import groupby
from typing import Sequence

import torch
from torch import Tensor

from .blocks import join_blocks, split_blocks
from .dot_product import dot_product_attention
from .neighbourhood import masked_attention, visible_tokens


def block_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    size: int,
    padding_mask: Tensor | None = None,
    lengths: Sequence[int] | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Each token attends to its own block; blocks are counted from the document's start.

    Where nothing is padded, or the host knows the lengths, there is no mask, and no work on padding: documents of
    equal length have their full blocks in one call of the attention, their last, shorter blocks in another. Where
    only the device knows the lengths, every block is masked, so that the host need not wait.

    Args:
        query, key, value: (B, T, H, D).
        size: tokens in a block, at least 1.
        padding_mask: (B, T) bool, True on padding, which is on the right; None where there is none.
        lengths: tokens of each document, the same as ``padding_mask`` says, on the host; or None.
        dropout: probability for the weights; 0 in evaluation.

    Returns:
        (B, T, H, D); rows of padding are finite and otherwise without meaning.

    Raises:
        ValueError: ``size`` is below 1.
    """
    batch, length = query.shape[:2]
    if size < 1:
        raise ValueError(f"a block needs at least one token, got size={size}")
    if lengths is None and padding_mask is not None:
        size = min(size, length)
        visible = split_blocks(visible_tokens(query, padding_mask), size)
        out = masked_attention(*(split_blocks(x, size) for x in (query, key, value)), visible, dropout)
        return join_blocks(out, batch, length)
    parts, start = [], 0
    for tokens, documents in groupby([length] * batch if lengths is None else lengths):
        stop = start + len(list(documents))
        parts.append(_of_equal_length(*(x[start:stop] for x in (query, key, value)), tokens, size, dropout))
        start = stop
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _of_equal_length(query: Tensor, key: Tensor, value: Tensor, tokens: int, size: int, dropout: float) -> Tensor:
    """Documents of ``tokens`` tokens, padded to T: (B, T, H, D) x 3 -> (B, T, H, D), zero on padding."""
    full, parts = tokens - tokens % size, []
    for begin, end, width in ((0, full, size), (full, tokens, tokens - full)):
        if begin < end:
            blocks = (
                x[:, begin:end].unflatten(1, (-1, width)).flatten(0, 1).transpose(1, 2) for x in (query, key, value)
            )
            out = dot_product_attention(*blocks, dropout=dropout).transpose(1, 2)
            parts.append(out.reshape(len(query), end - begin, *out.shape[2:]))
    if tokens < query.size(1):
        parts.append(value.new_zeros(len(value), value.size(1) - tokens, *value.shape[2:]))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
