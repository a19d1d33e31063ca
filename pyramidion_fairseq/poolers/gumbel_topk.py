"""Relaxed subset sampling (Xie and Ermon 2019; named in Appendix B)."""

from __future__ import annotations

import math
from argparse import Namespace

from torch import Tensor

from ..errors import PyramidionError
from ..functional import Pooled, gumbel_topk
from .base import POOLERS, Pooler


@POOLERS.register("gumbel_topk")
class GumbelTopkPooler(Pooler):
    """Relaxed sampling with Gumbel noise in training; see :func:`~pyramidion_fairseq.functional.gumbel_topk`.

    Args:
        temperature: in units of log score.

    Raises:
        PyramidionError: the temperature is not positive.
    """

    exact_record = False
    needs_positive_scores = True

    def __init__(self, temperature: float = 0.1):
        super().__init__()
        if not 0 < temperature < math.inf:
            raise PyramidionError(f"--gumbel-temperature must be positive and finite, got {temperature}")
        self.temperature = temperature

    @classmethod
    def from_config(cls, cfg: Namespace) -> GumbelTopkPooler:
        return cls(cfg.gumbel_temperature)

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return gumbel_topk(x, scores, k, temperature=self.temperature, noise=self.training, padding_mask=padding_mask)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"
