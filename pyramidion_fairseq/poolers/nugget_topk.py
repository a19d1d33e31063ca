"""Hard top-k whose scores are read by the decoder, which trains the scorer (Qin and Van Durme 2023, "Nugget")."""

from __future__ import annotations

from argparse import Namespace

from torch import Tensor

from ..functional import Pooled, hard_topk
from .base import POOLERS, Pooler


@POOLERS.register("nugget_topk")
class NuggetTopkPooler(Pooler):
    """Keeps the k best representations unchanged, and adds their scores to the decoder's attention logits.

    The representations do not depend on the scores, but the decoder's attention to them does. With several poolings,
    the score of a vector is the sum of the scores with which each pooling kept it. The scores of the paper are
    unbounded, so use ``--scorer-activation none``.
    """

    differentiable_in_scores = False
    adds_scores_to_attention = True

    @classmethod
    def from_config(cls, cfg: Namespace) -> NuggetTopkPooler:
        return cls()

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return hard_topk(x, scores, k, padding_mask=padding_mask)
