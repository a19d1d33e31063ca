"""Local, sparse and global attention in one softmax (Condevaux and Harispe 2022, "LSG Attention")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .blocks import join_blocks, split_blocks
from .neighbourhood import masked_attention, neighbours
from .sparse_tokens import SparseTokens


def beside_window(x: Tensor, blocks: int, per_block: int, reach: int) -> Tensor:
    """Return the sparse tokens seen by each block: ``reach`` to the left and to the right of its local window.

    Block i sees [(i - 1) r - reach, (i - 1) r) and [(i + 2) r, (i + 2) r + reach), with r = ``per_block``. The blocks
    i - 1 to i + 1, which its window covers, are not seen twice. This holds for any r. The published code shifts the
    ranges by one for odd r, and loses the right range for factor 1.

    Args:
        x: (B, blocks * per_block, ...) reduced sequence.
        blocks: N, number of blocks per document.
        per_block: number of sparse tokens per block.
        reach: number of sparse tokens seen on each side.

    Returns:
        (B * N, 2 * reach, ...); zeros (False) outside the document.
    """
    x = F.pad(x, (0, 0) * (x.dim() - 2) + (reach + per_block, reach + per_block))
    left = x.unfold(1, reach, per_block)[:, :blocks]
    right = x[:, reach + 3 * per_block :].unfold(1, reach, per_block)[:, :blocks]
    return torch.cat([left, right], dim=-1).movedim(-1, 2).flatten(0, 1)


def lsg_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_mask: Tensor,
    num_globals: int,
    block: int,
    sparse: SparseTokens | None,
    reach: int,
    dropout: float = 0.0,
) -> Tensor:
    """Let global tokens attend to everything, and others to global tokens, their window and sparse tokens beside it.

    Args:
        query, key, value: (B, G + T, H, D), global tokens first; T is a multiple of ``block``.
        key_mask: (B, G + T) bool, False on padding.
        num_globals: G, at least 1.
        block: number of tokens per block. The window of a token is its own block and the two adjacent ones.
        sparse: reduced sequence of the T tokens, or None.
        reach: number of sparse tokens seen by a block on each side of its window.
        dropout: dropout probability of the attention weights; 0 in evaluation.

    Returns:
        (B, G + T, H, D); rows at padding are finite but arbitrary.
    """
    from_globals = masked_attention(query[:, :num_globals], key, value, key_mask, dropout)
    out = attend_beside_globals(query, key, value, key_mask, num_globals, block, sparse, reach, dropout)
    return torch.cat([from_globals, out], dim=1)


def attend_beside_globals(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_mask: Tensor,
    num_globals: int,
    block: int,
    sparse: SparseTokens | None,
    reach: int,
    dropout: float = 0.0,
) -> Tensor:
    """Compute :func:`lsg_attention`, with the same arguments, for all tokens except the global ones.

    Returns:
        (B, T, H, D).
    """
    batch, _, heads, _ = key.shape
    # Keys and values seen by each block: (B * N, G + 2 * reach + 3 * block, ...)
    blocks = (query.size(1) - num_globals) // block
    key_mask = key_mask.unsqueeze(-1).expand(-1, -1, heads)
    seen = []
    for x, reduced in zip((key, value, key_mask), sparse or (None, None, None)):
        everywhere = x[:, :num_globals].unsqueeze(1).expand(-1, blocks, *x[:, :num_globals].shape[1:])
        parts = [everywhere.flatten(0, 1)]
        if reduced is not None:
            parts.append(beside_window(reduced, blocks, reduced.size(1) // blocks, reach))
        parts.append(neighbours(split_blocks(x[:, num_globals:], block), batch))
        seen.append(torch.cat(parts, dim=1))
    keys, values, key_masks = seen
    out = masked_attention(split_blocks(query[:, num_globals:], block), keys, values, key_masks, dropout)
    return join_blocks(out, batch, blocks * block)
