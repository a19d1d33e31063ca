"""Base class of ``lsh`` and ``efficient``, in which some heads attend to a local window."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from ..errors import PyramidionError
from ..functional import window_attention
from .base import EncoderAttention


class LocalHeadsAttention(EncoderAttention):
    """Attention whose first heads attend to a local window. Subclasses implement :meth:`attend_far` for the others.

    The paper gives its LSH and Efficient baselines two such heads. Without them, they are several ROUGE points worse
    (Appendix C.1, after Rae and Razavi 2020). The window size is not stated.

    Args:
        embed_dim, num_heads, dropout: see :class:`EncoderAttention`.
        local_heads: number of heads with a local window, from 0 to ``num_heads``.
        local_window: number of tokens per block of the window, at least 1. A token attends to its own block and the
            two adjacent ones.

    Raises:
        PyramidionError: an option is out of range.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, local_heads: int = 2, local_window: int = 128
    ):
        super().__init__(embed_dim, num_heads, dropout)
        if not 0 <= local_heads <= num_heads:
            raise PyramidionError(f"--local-heads must be from 0 to the number of heads ({num_heads}): {local_heads}")
        if local_window < 1:
            raise PyramidionError(f"--local-window must be at least 1, got {local_window}")
        self.local_heads = local_heads
        self.local_window = local_window
        self.head_dim = embed_dim // num_heads

    def attend_far(self, query: Tensor, key: Tensor, value: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Attend with the other heads: (B, T, H - local_heads, D) x 3, (B, T) -> (B, T, H - local_heads, D)."""
        raise NotImplementedError

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        padding_mask: Tensor | None,
        document_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        heads = [x.unflatten(-1, (-1, self.head_dim)) for x in (query, key, value)]  # (B, T, H, D) each
        parts = []
        if self.local_heads:
            query, key, value = (x[:, :, : self.local_heads] for x in heads)
            parts.append(window_attention(query, key, value, self.local_window, padding_mask, self.active_dropout))
        if self.local_heads < self.num_heads:
            query, key, value = (x[:, :, self.local_heads :] for x in heads)
            parts.append(self.attend_far(query, key, value, padding_mask))
        return torch.cat(parts, dim=2).flatten(2)

    def multiplications(self, length: int) -> int:
        size = min(self.local_window, length)
        near = 2 * -(-length // size) * size * 3 * size * self.local_heads * self.head_dim
        return near + self.multiplications_far(length, self.num_heads - self.local_heads)

    def multiplications_far(self, length: int, heads: int) -> int:
        """Return the number of multiplications of :meth:`attend_far` with ``heads`` heads, for one document."""
        raise NotImplementedError
