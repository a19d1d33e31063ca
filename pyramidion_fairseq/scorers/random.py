"""The random scorer, the ablation's lower bound (paper, Appendix A and Table 4)."""

from __future__ import annotations

from argparse import Namespace

import torch
from torch import Tensor

from ..functional import token_positions
from .base import SCORERS, TokenScorer


@SCORERS.register("random")
class RandomScorer(TokenScorer):
    """Uniform scores in [0, 1) that do not depend on the representations.

    In training, new scores are sampled for every batch. In evaluation, they are a function of the token's position in
    the document, so that the encoding of a document is always the same, in any batch.
    """

    bounded = True
    positional = True

    @classmethod
    def from_config(cls, cfg: Namespace) -> RandomScorer:
        return cls()

    def rate(self, x: Tensor, padding_mask: Tensor | None, attention: Tensor | None = None) -> Tensor:
        if self.training:
            return torch.rand(x.shape[:2], dtype=x.dtype, device=x.device)
        return hashed_uniform(token_positions(x.shape[:2], padding_mask, x.device)).to(x.dtype)


def hashed_uniform(positions: Tensor) -> Tensor:
    """Return pseudo-random numbers that depend only on their index, the same on every device.

    Args:
        positions: int64, any shape, at least -1.

    Returns:
        float32 in [0, 1), same shape: the upper 24 bits of a 32-bit multiply-xorshift hash (Wellons' "lowbias32").
    """
    bits = 0xFFFFFFFF
    h = (positions + 1) & bits
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = ((h ^ (h >> shift)) * factor) & bits
    h = h ^ (h >> 16)
    return (h >> 8).float() / 2**24
