"""Base class of token scorers."""

from __future__ import annotations

from argparse import Namespace

import torch
from torch import Tensor, nn

from ..registry import Registry

#: Added to every score, as in the published code, so that no score is zero.
EPSILON = 1e-5


class TokenScorer(nn.Module):
    """Rates how useful each token's representation is for the following layers (paper, Eq. 1).

    Subclasses implement :meth:`rate`. Scores are computed in at least float32, whatever the model's precision, with
    autocast disabled. A difference of 0.4% (bfloat16) would decide pairs of the tournament.

    Args:
        activation: "sigmoid" maps ratings to (0, 1], as the published code does and as the peaked softmax of
            successive halving expects. "none" leaves them unchanged, as in Eq. 1.
    """

    #: Whether ratings already lie in [0, 1]. If so, no activation is applied.
    bounded = False
    #: Whether ratings depend only on positions, counted from the start of the document.
    positional = False
    #: Whether the rating of a token depends on other tokens, or also on its position, so that documents cannot be read
    #: in parts.
    needs_whole_documents = False
    #: Whether ratings depend on the attention received by each token, which the encoder then passes to the scorer.
    needs_attention = False

    def __init__(self, activation: str = "sigmoid"):
        super().__init__()
        self.activation = activation

    @classmethod
    def from_config(cls, cfg: Namespace) -> TokenScorer:
        """Build from complete options (:func:`~pyramidion_fairseq.config.complete`)."""
        raise NotImplementedError(f"{cls.__name__} has no from_config")

    def rate(self, x: Tensor, padding_mask: Tensor | None, attention: Tensor | None = None) -> Tensor:
        """Rate tokens. Arguments are those of :meth:`forward`, with x in float32 or float64.

        Ratings of padded positions are ignored. Parameters may be in half precision while x is float32.

        Returns:
            (B, T) ratings, float32 or float64.
        """
        raise NotImplementedError(f"{type(self).__name__} has no rate")

    def forward(self, x: Tensor, padding_mask: Tensor | None = None, attention: Tensor | None = None) -> Tensor:
        """Score tokens.

        Args:
            x: (B, T, C) representations, any floating dtype.
            padding_mask: (B, T) bool, True on padding; None if there is no padding.
            attention: (B, T) column sums of the preceding layer's attention over queries and heads (see
                ``EncoderAttention.received``); only for scorers with :attr:`needs_attention`.

        Returns:
            (B, T) scores, float32 (float64 for float64).

        Raises:
            ValueError: the scorer needs the attention and it is missing, or :meth:`rate` did not return (B, T) ratings
                in float32 or float64.
        """
        if self.needs_attention and attention is None:
            raise ValueError(f"{type(self).__name__} needs the attention of the preceding layer")
        with torch.autocast(x.device.type, enabled=False):
            ratings = self.rate(x if x.dtype == torch.float64 else x.float(), padding_mask, attention)
            if ratings.shape != x.shape[:2] or ratings.dtype not in (torch.float32, torch.float64):
                raise ValueError(
                    f"{type(self).__name__}.rate must return float32 or float64 of shape {tuple(x.shape[:2])}, "
                    f"got {ratings.dtype} of shape {tuple(ratings.shape)}"
                )
            if self.bounded or self.activation == "none":
                return ratings
            return ratings.sigmoid() + EPSILON


SCORERS: Registry[TokenScorer] = Registry("scorer", TokenScorer)
