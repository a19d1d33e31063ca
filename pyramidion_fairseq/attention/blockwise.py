"""Block-wise attention (paper, section 3.1)."""

from __future__ import annotations

from argparse import Namespace
from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..functional import join_blocks, split_blocks
from .base import ATTENTIONS, EncoderAttention


@ATTENTIONS.register("blockwise")
class BlockwiseAttention(EncoderAttention):
    """Full attention inside non-overlapping blocks, counted from the start of the document.

    Args:
        embed_dim, num_heads, dropout: see :class:`EncoderAttention`.
        block_size: number of tokens per block, at least 1.
    """

    supports_sequence_parallel = True

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, block_size: int = 512):
        super().__init__(embed_dim, num_heads, dropout)
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        self.block_size = block_size

    @classmethod
    def from_config(cls, cfg: Namespace) -> BlockwiseAttention:
        return cls(cfg.encoder_embed_dim, cfg.encoder_attention_heads, cfg.attention_dropout, cfg.block_size)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        padding_mask: Tensor | None,
        document_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        return self.attend_in_blocks(query, key, value, padding_mask, document_lengths, self.block_size)

    def column_sums(self, query: Tensor, key: Tensor, padding_mask: Tensor | None) -> Tensor:
        batch, length = query.shape[:2]
        size = min(self.block_size, length)
        if length % size and padding_mask is None:
            padding_mask = query.new_zeros(batch, length, dtype=torch.bool)
        if padding_mask is not None:  # the last block is filled up with padding
            padding_mask = F.pad(padding_mask, (0, -length % size), value=True).view(-1, size)
        sums = self.dot_product_column_sums(split_blocks(query, size), split_blocks(key, size), padding_mask)
        return join_blocks(sums, batch, length)

    def multiplications(self, length: int) -> int:
        full, rest = divmod(length, self.block_size)
        return 2 * (full * self.block_size**2 + rest**2) * self.embed_dim
