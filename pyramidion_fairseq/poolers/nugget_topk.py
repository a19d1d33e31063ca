"""Hard top-k whose scores the decoder reads, so that the scorer learns (Qin and Van Durme 2023, "Nugget")."""

from __future__ import annotations

from argparse import Namespace

from torch import Tensor

from ..functional import Pooled, hard_topk
from .base import POOLERS, Pooler


@POOLERS.register("nugget_topk")
class NuggetTopkPooler(Pooler):
    """Keep the k best representations as they are, and add their scores to the logits of the decoder's attention.

    The representations do not depend on the scores; the decoder's attention to them does. With several poolings, a
    vector's score is the sum of those that it was kept with. Scores have no bounds in the paper: use it with
    ``--scorer-activation none``.
    """

    differentiable_in_scores = False
    adds_scores_to_attention = True

    @classmethod
    def from_config(cls, cfg: Namespace) -> NuggetTopkPooler:
        return cls()

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        return hard_topk(x, scores, k, padding_mask=padding_mask)
