"""Splitting sequences into the non-overlapping blocks of block-wise attention (paper, section 3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def split_blocks(x: Tensor, size: int) -> Tensor:
    """Split a sequence into blocks, padding the last one with zeros.

    Args:
        x: (B, T, ...) sequence, batch first.
        size: number of tokens per block, at least 1.

    Returns:
        (B * ceil(T / size), size, ...), the blocks of each document in order.

    Raises:
        ValueError: ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"a block needs at least one token, got size={size}")
    missing = -x.size(1) % size
    if missing:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, missing))
    return x.reshape(-1, size, *x.shape[2:])


def join_blocks(blocks: Tensor, batch: int, length: int) -> Tensor:
    """Undo :func:`split_blocks`.

    Args:
        blocks: (batch * blocks per document, size, ...).
        batch: number of documents.
        length: number of tokens per document, without the padding of the last block.

    Returns:
        (batch, length, ...).
    """
    return blocks.reshape(batch, -1, *blocks.shape[2:])[:, :length]
