"""The contract of token scorers."""

from __future__ import annotations

from argparse import Namespace

import torch
from torch import Tensor, nn

from ..registry import Registry

#: What the published code adds to every score, so that none is zero.
EPSILON = 1e-5


class TokenScorer(nn.Module):
    """Rates how useful each token's representation is for the layers to come (paper, Eq. 1).

    Subclasses implement :meth:`rate`. Scores are computed in float32 at least, whatever the model's precision, with
    autocast off: a difference of 0.4% (bfloat16) would decide pairs of the tournament.

    Args:
        activation: "sigmoid" maps ratings to (0, 1] as the published code does, which the peaked softmax of
            successive halving expects; "none" leaves them as they are, as Eq. 1 writes them.
    """

    #: Scorers whose ratings lie in [0, 1] by themselves set this, and get no activation.
    bounded = False
    #: Scorers that look at positions alone, counted from the document's start, set this.
    positional = False
    #: Scorers whose rating of a token depends on other tokens, or on its position as well, set this: their documents
    #: are not read in parts.
    needs_whole_documents = False
    #: Scorers that rate tokens by the attention they received set this; the encoder then hands it to them.
    needs_attention = False

    def __init__(self, activation: str = "sigmoid"):
        super().__init__()
        self.activation = activation

    @classmethod
    def from_config(cls, cfg: Namespace) -> TokenScorer:
        """Build from complete options (:func:`~pyramidion_fairseq.config.complete`)."""
        raise NotImplementedError(f"{cls.__name__} has no from_config")

    def rate(self, x: Tensor, padding_mask: Tensor | None, attention: Tensor | None = None) -> Tensor:
        """Rate tokens: arguments as of :meth:`forward`, x in float32 or float64 -> (B, T) ratings, float32 or float64.

        Ratings of padded positions are ignored. Parameters may be in half precision where x is float32.
        """
        raise NotImplementedError(f"{type(self).__name__} has no rate")

    def forward(self, x: Tensor, padding_mask: Tensor | None = None, attention: Tensor | None = None) -> Tensor:
        """Score tokens.

        Args:
            x: (B, T, C) representations, any floating dtype.
            padding_mask: (B, T) bool, True on padding; None where there is none.
            attention: (B, T) column sums of the preceding layer's attention, over its queries and heads (see
                ``EncoderAttention.received``); only for scorers that set :attr:`needs_attention`.

        Returns:
            (B, T) scores, float32 (float64 for float64).

        Raises:
            ValueError: the scorer needs the attention, and there is none; or :meth:`rate` returned no (B, T) ratings
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
