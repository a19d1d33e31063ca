"""Top-k by a threshold: the operators of LapSum, SparseK, CoLT5 and DFTopK (2023 to 2025)."""

from __future__ import annotations

import math
from argparse import Namespace

from torch import Tensor

from ..errors import PyramidionError
from ..functional import Pooled, threshold_topk
from ..functional.topk.threshold import LINKS
from .base import POOLERS, Pooler


@POOLERS.register("threshold_topk")
class ThresholdTopkPooler(Pooler):
    """Keeps the k best tokens, scaled by their gates; see :func:`~pyramidion_fairseq.functional.threshold_topk`.

    Args:
        link: ``laplace``, ``clip``, ``exp`` or ``sigmoid``.
        epsilon: width of the link, in units of score.

    Raises:
        PyramidionError: the link is unknown, or epsilon is not positive.
    """

    convex = False

    def __init__(self, link: str = "laplace", epsilon: float = 0.1):
        super().__init__()
        if link not in LINKS:
            raise PyramidionError(f"--threshold-link must be one of {', '.join(LINKS)}, got {link}")
        if not 0 < epsilon < math.inf:
            raise PyramidionError(f"--threshold-epsilon must be positive and finite, got {epsilon}")
        self.link, self.epsilon = link, epsilon

    @classmethod
    def from_config(cls, cfg: Namespace) -> ThresholdTopkPooler:
        return cls(cfg.threshold_link, cfg.threshold_epsilon)

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return threshold_topk(x, scores, k, link=self.link, epsilon=self.epsilon, padding_mask=padding_mask)

    def extra_repr(self) -> str:
        return f"link={self.link}, epsilon={self.epsilon}"
