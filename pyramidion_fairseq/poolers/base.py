"""The contract of poolers."""

from __future__ import annotations

from torch import Tensor, nn

from ..functional import Pooled
from ..registry import Registry


class Pooler(nn.Module):
    """Turns n scored representations into k.

    What must hold for every pooler: padding is never selected and changes nothing; a document with at most k tokens
    passes unchanged; slots keep the order of the document unless the user asks otherwise.
    """

    @classmethod
    def from_config(cls, cfg) -> Pooler:
        """Build from a :class:`~pyramidion_fairseq.config.PyramidionConfig`."""
        raise NotImplementedError

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        """Pool a batch.

        Args:
            x: (B, n, C) representations.
            scores: (B, n) float32 or float64.
            padding_mask: (B, n) bool, True on padding; None where there is none.
            k: representations to keep per document.

        Returns:
            :class:`~pyramidion_fairseq.functional.Pooled` with min(n, k) slots.
        """
        raise NotImplementedError


POOLERS: Registry[Pooler] = Registry("pooler", Pooler)
