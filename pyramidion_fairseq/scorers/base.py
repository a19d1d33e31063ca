"""The contract of token scorers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..registry import Registry

#: What the published code adds to every score, so that none is zero.
EPSILON = 1e-5


class TokenScorer(nn.Module):
    """Rates how useful each token's representation is for the layers to come (paper, Eq. 1).

    Subclasses implement :meth:`rate`. Scores are computed in float32 at least, whatever the model's precision, with
    autocast off: a difference of 0.4% (bfloat16) would decide matches of the tournament.

    Args:
        activation: "sigmoid" maps ratings to (0, 1] as the published code does, which the peaked softmax of
            successive halving expects; "none" leaves them as they are, as Eq. 1 writes them.
    """

    #: Scorers whose ratings lie in [0, 1] by themselves set this, and get no activation.
    bounded = False

    def __init__(self, activation: str = "sigmoid"):
        super().__init__()
        self.activation = activation

    @classmethod
    def from_config(cls, cfg) -> TokenScorer:
        """Build from a :class:`~pyramidion_fairseq.config.PyramidionConfig`."""
        raise NotImplementedError

    def rate(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """(B, T, C) float32 or float64, (B, T) bool or None -> (B, T) ratings; those of padding are ignored."""
        raise NotImplementedError

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Score tokens.

        Args:
            x: (B, T, C) representations, any floating dtype.
            padding_mask: (B, T) bool, True on padding; None where there is none.

        Returns:
            (B, T) scores, float32 (float64 for float64).
        """
        with torch.autocast(x.device.type, enabled=False):
            ratings = self.rate(x if x.dtype == torch.float64 else x.float(), padding_mask)
            if self.bounded or self.activation == "none":
                return ratings
            return ratings.sigmoid() + EPSILON


SCORERS: Registry[TokenScorer] = Registry("scorer", TokenScorer)
