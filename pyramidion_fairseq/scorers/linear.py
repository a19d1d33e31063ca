"""The linear scorer, which works best in the paper (section 3.1)."""

from __future__ import annotations

from argparse import Namespace

import torch.nn.functional as F
from torch import Tensor, nn

from .base import SCORERS, TokenScorer


@SCORERS.register("linear")
class LinearScorer(TokenScorer):
    """S(e) = e^T w + b (paper, section 3.1 and Appendix A).

    Args:
        dim: width C of the representations.
        activation: see :class:`TokenScorer`.
    """

    def __init__(self, dim: int, activation: str = "sigmoid"):
        super().__init__(activation)
        self.proj = nn.Linear(dim, 1)

    @classmethod
    def from_config(cls, cfg: Namespace) -> LinearScorer:
        return cls(cfg.encoder_embed_dim, cfg.scorer_activation)

    def rate(self, x: Tensor, padding_mask: Tensor | None, attention: Tensor | None = None) -> Tensor:
        return F.linear(x, self.proj.weight.to(x.dtype), self.proj.bias.to(x.dtype)).squeeze(-1)
