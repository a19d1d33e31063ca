"""Hard top-k, the selection of PoWER-BERT, which successive halving relaxes (paper, Eq. 2)."""

from __future__ import annotations

from argparse import Namespace

from torch import Tensor

from ..functional import Pooled, hard_topk
from .base import POOLERS, Pooler


@POOLERS.register("hard_topk")
class HardTopkPooler(Pooler):
    """Keeps the k best representations unchanged; see :func:`~pyramidion_fairseq.functional.hard_topk`.

    A trainable scorer learns nothing with this pooler (Eq. 4), because its gradient is zero. With the
    ``attention_sum`` scorer, this is the progressive word-vector elimination of PoWER (Goyal et al. 2020).
    """

    differentiable_in_scores = False

    @classmethod
    def from_config(cls, cfg: Namespace) -> HardTopkPooler:
        return cls()

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return hard_topk(x, scores, k, padding_mask=padding_mask)
