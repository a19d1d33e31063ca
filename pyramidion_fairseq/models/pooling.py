"""One pooling of the encoder: a scorer and a pooler."""

from __future__ import annotations

from torch import Tensor, nn

from ..functional import Pooled, keep_all
from ..poolers import Pooler
from ..scorers import TokenScorer


class RepresentationPooling(nn.Module):
    """Score each representation, keep the k best (paper, section 3.1).

    Args:
        scorer: rates the tokens.
        pooler: selects them.
        k: tokens to keep.
    """

    def __init__(self, scorer: TokenScorer, pooler: Pooler, k: int):
        super().__init__()
        self.scorer, self.pooler, self.k = scorer, pooler, k

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Pooled:
        """(B, T, C), (B, T) bool or None -> :class:`~pyramidion_fairseq.functional.Pooled` with min(T, k) slots."""
        scores = self.scorer(x, padding_mask)
        if x.size(1) > self.k:
            return self.pooler(x, scores, padding_mask, self.k)
        if scores.requires_grad:
            # Nothing to select, yet the scorer's parameters must take part in every backward pass: data-parallel
            # training waits for the gradient of each parameter.
            x = x + 0.0 * scores.sum().to(x.dtype)
        return keep_all(x, scores, padding_mask)

    def extra_repr(self) -> str:
        return f"k={self.k}"
