"""The nonlinear scorer of the ablation (paper, Appendix A and Table 4)."""

from __future__ import annotations

from argparse import Namespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import SCORERS, TokenScorer


@SCORERS.register("nonlinear")
class NonlinearScorer(TokenScorer):
    """S(e) = w2^T tanh(W1 e + b1) + b2, like RoBERTa's classification head without dropout.

    The paper prints w1 in R^d, which would make the tanh a scalar. The head that it follows (Liu et al. 2019) has a
    dense d x d layer instead, and so does this scorer.

    Args:
        dim: width C of the representations.
        activation: see :class:`TokenScorer`.
    """

    def __init__(self, dim: int, activation: str = "sigmoid"):
        super().__init__(activation)
        self.dense = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, 1)

    @classmethod
    def from_config(cls, cfg: Namespace) -> NonlinearScorer:
        return cls(cfg.encoder_embed_dim, cfg.scorer_activation)

    def rate(self, x: Tensor, padding_mask: Tensor | None, attention: Tensor | None = None) -> Tensor:
        hidden = torch.tanh(F.linear(x, self.dense.weight.to(x.dtype), self.dense.bias.to(x.dtype)))
        return F.linear(hidden, self.proj.weight.to(x.dtype), self.proj.bias.to(x.dtype)).squeeze(-1)
