"""Efficient attention (Shen et al. 2021), one of the paper's baselines."""

from __future__ import annotations

from argparse import Namespace

from torch import Tensor

from ..functional import efficient_attention
from .base import ATTENTIONS
from .local_heads import LocalHeadsAttention


@ATTENTIONS.register("efficient")
class EfficientAttention(LocalHeadsAttention):
    """rho_q(Q) (rho_k(K)^T V), linear in the document length, next to heads with a local window.

    Args:
        embed_dim, num_heads, dropout, local_heads, local_window: see :class:`LocalHeadsAttention`. Dropout only
            affects the local heads; the others have no attention weights.
    """

    @classmethod
    def from_config(cls, cfg: Namespace) -> EfficientAttention:
        return cls(
            cfg.encoder_embed_dim,
            cfg.encoder_attention_heads,
            cfg.attention_dropout,
            cfg.local_heads,
            cfg.local_window,
        )

    def attend_far(self, query: Tensor, key: Tensor, value: Tensor, padding_mask: Tensor | None) -> Tensor:
        return efficient_attention(query, key, value, padding_mask)

    def multiplications_far(self, length: int, heads: int) -> int:
        return 2 * length * heads * self.head_dim**2
