"""The PoWER-like scorer: the attention received by each token (Goyal et al. 2020; paper, Appendix A)."""

from __future__ import annotations

from argparse import Namespace

from torch import Tensor

from .base import SCORERS, TokenScorer


@SCORERS.register("attention_sum")
class AttentionSumScorer(TokenScorer):
    """Column sums of the attention of the layer before the pooling, over queries and heads.

    The formula printed in Appendix A, sum_j A_ij, is a row sum and always 1. Goyal et al. sum over the queries.

    Divided by the number of heads, the sums c of a document have mean 1, whatever its length and the block size, so c
    is the attention received relative to the average. Scores are c / (1 + c), which makes c their odds. They lie in
    [0, 1), 0.5 is average, and they are ordered like the sums. A sigmoid of the raw sums would be close to 1 for every
    token of a model with several heads.

    Args:
        heads: number of attention heads.
    """

    bounded = True
    needs_attention = True

    def __init__(self, heads: int):
        super().__init__()
        self.heads = heads

    @classmethod
    def from_config(cls, cfg: Namespace) -> AttentionSumScorer:
        return cls(cfg.encoder_attention_heads)

    def rate(self, x: Tensor, padding_mask: Tensor | None, attention: Tensor | None = None) -> Tensor:
        assert attention is not None  # checked in forward
        received = attention.to(x.dtype) / self.heads
        return received / (1 + received)

    def extra_repr(self) -> str:
        return f"heads={self.heads}"
