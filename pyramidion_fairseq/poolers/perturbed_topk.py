"""Top-k of randomly perturbed scores (Cordonnier et al. 2021)."""

from __future__ import annotations

import math
from argparse import Namespace

from torch import Tensor

from ..errors import PyramidionError
from ..functional import Pooled, perturbed_topk
from .base import POOLERS, Pooler


@POOLERS.register("perturbed_topk")
class PerturbedTopkPooler(Pooler):
    """Top-k with noise in training, hard in evaluation; see :func:`~pyramidion_fairseq.functional.perturbed_topk`.

    Args:
        sigma: standard deviation of the noise, in units of score.
        samples: number of selections to average.

    Raises:
        PyramidionError: sigma is not positive, or there are fewer than two samples.
    """

    exact_record = False

    def __init__(self, sigma: float = 0.05, samples: int = 100):
        super().__init__()
        if not 0 < sigma < math.inf:
            raise PyramidionError(f"--perturbed-sigma must be positive and finite, got {sigma}")
        if samples < 2:
            raise PyramidionError(f"--perturbed-samples must be at least 2, got {samples}")
        self.sigma, self.samples = sigma, samples
        self.train(self.training)

    @classmethod
    def from_config(cls, cfg: Namespace) -> PerturbedTopkPooler:
        return cls(cfg.perturbed_sigma, cfg.perturbed_samples)

    def train(self, mode: bool = True) -> PerturbedTopkPooler:
        """Switch the noise, and with it :attr:`differentiable_in_scores` and :attr:`exact_record`."""
        self.differentiable_in_scores = mode
        self.exact_record = not mode
        super().train(mode)
        return self

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return perturbed_topk(
            x, scores, k, sigma=self.sigma, samples=self.samples, noise=self.training, padding_mask=padding_mask
        )

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}, samples={self.samples}"
