"""Top-k as entropic optimal transport (Xie et al. 2020; named in Appendix B)."""

from __future__ import annotations

import math
from argparse import Namespace

from torch import Tensor

from ..errors import PyramidionError
from ..functional import Pooled, sinkhorn_topk
from .base import POOLERS, Pooler


@POOLERS.register("sinkhorn_topk")
class SinkhornTopkPooler(Pooler):
    """The sorted SOFT top-k operator; see :func:`~pyramidion_fairseq.functional.sinkhorn_topk`.

    Args:
        epsilon: strength of the entropic regularisation, in squared units of score.
        iterations: number of Sinkhorn iterations.

    Raises:
        PyramidionError: epsilon is not positive, or there are no iterations.
    """

    exact_record = False

    def __init__(self, epsilon: float = 1e-2, iterations: int = 200):
        super().__init__()
        if not 0 < epsilon < math.inf:
            raise PyramidionError(f"--sinkhorn-epsilon must be positive and finite, got {epsilon}")
        if iterations < 1:
            raise PyramidionError(f"--sinkhorn-iterations must be at least 1, got {iterations}")
        self.epsilon, self.iterations = epsilon, iterations

    @classmethod
    def from_config(cls, cfg: Namespace) -> SinkhornTopkPooler:
        return cls(cfg.sinkhorn_epsilon, cfg.sinkhorn_iterations)

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return sinkhorn_topk(x, scores, k, epsilon=self.epsilon, iterations=self.iterations, padding_mask=padding_mask)

    def extra_repr(self) -> str:
        return f"epsilon={self.epsilon}, iterations={self.iterations}"
