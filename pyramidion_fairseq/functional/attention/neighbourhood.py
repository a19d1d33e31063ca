"""Attention inside windows of neighbouring blocks. Tensors with heads are (B, T, H, D) in this module."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .blocks import join_blocks, split_blocks
from .dot_product import dot_product_attention


def key_mask_of(x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Return (B, T) bool, True on tokens: the opposite of ``padding_mask``, or all True where that is None.

    Args:
        x: (B, T, ...) tensor that determines shape and device.
        padding_mask: (B, T) bool, True on padding, or None.
    """
    return x.new_ones(x.shape[:2], dtype=torch.bool) if padding_mask is None else ~padding_mask


def neighbours(blocks: Tensor, batch: int, before: int = 1, after: int = 1) -> Tensor:
    """Concatenate each block with its neighbours.

    Args:
        blocks: (batch * N, size, ...) from :func:`split_blocks`, N blocks per document in order.
        batch: number of documents.
        before, after: number of blocks on each side.

    Returns:
        (batch * N, (before + 1 + after) * size, ...) in the document's order; zeros (False) outside the document.
    """
    blocks = blocks.unflatten(0, (batch, -1))
    count = blocks.size(1)
    blocks = F.pad(blocks, (0, 0) * (blocks.dim() - 2) + (before, after))
    return torch.cat([blocks[:, i : i + count] for i in range(before + 1 + after)], dim=2).flatten(0, 1)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, dropout: float = 0.0) -> Tensor:
    """Return softmax(q k^T / sqrt(D)) v over the keys that a mask selects (Vaswani et al. 2017, Eq. 1).

    Args:
        query: (N, Tq, H, D).
        key, value: (N, Tk, H, D).
        key_mask: (N, Tk) or (N, Tk, H) bool, True on keys that take part.
        dropout: dropout probability of the attention weights; 0 in evaluation.

    Returns:
        (N, Tq, H, D). If no key takes part, the result is finite but arbitrary.
    """
    key_mask = key_mask.unsqueeze(1) if key_mask.dim() == 2 else key_mask.transpose(1, 2)
    key_mask = key_mask | ~key_mask.any(dim=-1, keepdim=True)  # a softmax over no keys would be NaN
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return dot_product_attention(query, key, value, key_mask.unsqueeze(2), dropout).transpose(1, 2)


def window_attention(
    query: Tensor, key: Tensor, value: Tensor, window: int, padding_mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Let each token attend to its own block and the two adjacent ones. Blocks are counted from the document's start.

    This is the local attention that Rae and Razavi (2020) found sufficient in most layers, in block form: a token sees
    between ``window`` and ``2 * window`` tokens on each side.

    Args:
        query, key, value: (B, T, H, D).
        window: number of tokens per block, at least 1.
        padding_mask: (B, T) bool, True on padding, on the right only; or None.
        dropout: dropout probability of the attention weights; 0 in evaluation.

    Returns:
        (B, T, H, D); rows at padding are finite but arbitrary.

    Raises:
        ValueError: ``window`` is below 1.
    """
    batch, length = query.shape[:2]
    size = min(window, length)
    keys, values, key_mask = (
        neighbours(split_blocks(x, size), batch) for x in (key, value, key_mask_of(query, padding_mask))
    )
    return join_blocks(masked_attention(split_blocks(query, size), keys, values, key_mask, dropout), batch, length)
