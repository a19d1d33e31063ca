"""Merging of similar tokens, without scores (Bolya et al. 2023)."""

from __future__ import annotations

from argparse import Namespace

from torch import Tensor

from ..functional import Pooled, merge_similar
from .base import POOLERS, Pooler


@POOLERS.register("merge_similar")
class MergeSimilarPooler(Pooler):
    """Merges the most similar tokens; see :func:`~pyramidion_fairseq.functional.merge_similar`."""

    uses_scores = False
    differentiable_in_scores = False
    reads_representations = True

    @classmethod
    def from_config(cls, cfg: Namespace) -> MergeSimilarPooler:
        return cls()

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return merge_similar(x, scores, k, padding_mask=padding_mask)
