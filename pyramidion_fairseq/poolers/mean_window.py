"""Mean pooling of windows, an ablation without scores (paper, Appendix A and Table 4)."""

from __future__ import annotations

from torch import Tensor

from ..functional import Pooled, mean_windows
from .base import POOLERS, WindowPooler


@POOLERS.register("mean_window")
class MeanWindowPooler(WindowPooler):
    """Averages n / k consecutive tokens; see :func:`~pyramidion_fairseq.functional.mean_windows`."""

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return mean_windows(x, scores, k, window=self.windows.get(k, 1), padding_mask=padding_mask)
