"""The iterative relaxation of top-k that the paper compares with (Goyal et al. 2018; Appendix B.5)."""

from __future__ import annotations

import math
from argparse import Namespace

from torch import Tensor

from ..errors import PyramidionError
from ..functional import Pooled, iterative_topk
from .base import POOLERS, Pooler


@POOLERS.register("iterative_topk")
class IterativeTopkPooler(Pooler):
    """Iterative relaxation by k softmaxes; see :func:`~pyramidion_fairseq.functional.iterative_topk`.

    Args:
        temperature: in squared units of score.

    Raises:
        PyramidionError: the temperature is not positive.
    """

    exact_record = False

    def __init__(self, temperature: float = 1e-3):
        super().__init__()
        if not 0 < temperature < math.inf:
            raise PyramidionError(f"--iterative-temperature must be positive and finite, got {temperature}")
        self.temperature = temperature

    @classmethod
    def from_config(cls, cfg: Namespace) -> IterativeTopkPooler:
        return cls(cfg.iterative_temperature)

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return iterative_topk(x, scores, k, temperature=self.temperature, padding_mask=padding_mask)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"
