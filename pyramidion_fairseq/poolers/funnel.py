"""Funnel-Transformer: strided mean pooling, upsampled before the decoder (Dai et al. 2020; paper, Appendix C.1)."""

from __future__ import annotations

from argparse import Namespace
from typing import Mapping

from torch import Tensor

from ..functional import Pooled, mean_windows
from .base import POOLERS, WindowPooler


@POOLERS.register("funnel")
class FunnelPooler(WindowPooler):
    """Averages n / k consecutive tokens. The encoder upsamples its output to full length.

    Each token gets the last layer's output of its window plus its own representation just before the (first) pooling.
    The upsampled states have the document's length, which gives the decoder lengths of Table 2, rows 18 to 20. The
    published inference times are those of decoders that attend to the pooled states: ``--no-upsampling``.

    Two parts of Dai et al. are not used: attention in which only the queries are pooled, and layers after upsampling.
    The paper pools the sequence between layers and passes the upsampled sequence to the decoder.

    Args:
        windows: see :class:`WindowPooler`.
        upsamples: whether to upsample to full length before the decoder.
    """

    def __init__(self, windows: Mapping[int, int] | None = None, upsamples: bool = True):
        super().__init__(windows)
        self.upsamples = upsamples

    @classmethod
    def from_config(cls, cfg: Namespace) -> FunnelPooler:
        return cls(cls.windows_of(cfg), not cfg.no_upsampling)

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return mean_windows(x, scores, k, window=self.windows.get(k, 1), padding_mask=padding_mask)
