"""The Successive Halving Top-k pooler of the paper (section 4)."""

from __future__ import annotations

from argparse import Namespace

from torch import Tensor

from ..functional import Pooled, successive_halving_topk
from .base import POOLERS, Pooler


@POOLERS.register("successive_halving")
class SuccessiveHalvingPooler(Pooler):
    """Pools by a differentiable tournament; see :func:`~pyramidion_fairseq.functional.successive_halving_topk`.

    Args:
        base: base of the peaked softmax; None for the plain softmax of Eq. 6.
        sort: whether to sort before every round.
        preserve_order: whether to order the slots by the positions of their winners.
    """

    def __init__(self, base: float | None = 20.0, sort: bool = True, preserve_order: bool = True):
        super().__init__()
        self.base, self.sort, self.preserve_order = base, sort, preserve_order

    @classmethod
    def from_config(cls, cfg: Namespace) -> SuccessiveHalvingPooler:
        return cls(cfg.softmax_base or None, not cfg.no_sort, not cfg.score_order)

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return successive_halving_topk(
            x,
            scores,
            k,
            base=self.base,
            sort=self.sort,
            preserve_order=self.preserve_order,
            padding_mask=padding_mask,
        )

    def extra_repr(self) -> str:
        return "base={base}, sort={sort}, preserve_order={preserve_order}".format(**vars(self))
