"""Means of chunks that begin where adjacent tokens differ, without scores (Hwang et al. 2025)."""

from __future__ import annotations

from argparse import Namespace

from torch import Tensor

from ..functional import Pooled, boundary_chunks
from .base import POOLERS, Pooler


@POOLERS.register("boundary_chunk")
class BoundaryChunkPooler(Pooler):
    """Averages chunks between boundaries; see :func:`~pyramidion_fairseq.functional.boundary_chunks`."""

    uses_scores = False
    differentiable_in_scores = False
    reads_representations = True

    @classmethod
    def from_config(cls, cfg: Namespace) -> BoundaryChunkPooler:
        return cls()

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return boundary_chunks(x, scores, k, padding_mask=padding_mask)
