"""Max pooling of windows, an ablation without scores (paper, Appendix A and Table 4)."""

from __future__ import annotations

from torch import Tensor

from ..functional import Pooled, max_windows
from .base import POOLERS, WindowPooler


@POOLERS.register("max_window")
class MaxWindowPooler(WindowPooler):
    """Takes the maximum of each coordinate over n / k consecutive tokens.

    See :func:`~pyramidion_fairseq.functional.max_windows`.
    """

    exact_record = False

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return max_windows(x, scores, k, window=self.windows.get(k, 1), padding_mask=padding_mask)
