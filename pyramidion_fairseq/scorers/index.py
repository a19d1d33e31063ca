"""The index-based scorer of the ablation (paper, Appendix A and Table 4)."""

from __future__ import annotations

from argparse import Namespace

from torch import Tensor

from ..errors import PyramidionError
from ..functional import token_positions
from .base import SCORERS, TokenScorer


@SCORERS.register("index")
class IndexScorer(TokenScorer):
    """1 for every ``stride``-th token, counted from and including the document's first token, 0 for the others.

    The paper writes "i = 0 mod k", with the letter that elsewhere is the number of tokens kept. To keep k of n tokens,
    the stride is n / k, which is 4 in Table 4.

    Args:
        stride: stride in tokens, at least 1.

    Raises:
        PyramidionError: the stride is below 1.
    """

    bounded = True
    positional = True

    def __init__(self, stride: int = 4):
        super().__init__()
        if stride < 1:
            raise PyramidionError(f"--index-stride must be at least 1, got {stride}")
        self.stride = stride

    @classmethod
    def from_config(cls, cfg: Namespace) -> IndexScorer:
        return cls(cfg.index_stride)

    def rate(self, x: Tensor, padding_mask: Tensor | None, attention: Tensor | None = None) -> Tensor:
        return (token_positions(x.shape[:2], padding_mask, x.device) % self.stride == 0).to(x.dtype)

    def extra_repr(self) -> str:
        return f"stride={self.stride}"
