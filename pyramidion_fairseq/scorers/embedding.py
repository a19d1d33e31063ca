"""The embedding-based scorer of the ablation (paper, Appendix A and Table 4)."""

from __future__ import annotations

from argparse import Namespace

from torch import Tensor

from ..errors import PyramidionError
from .base import SCORERS, TokenScorer


@SCORERS.register("embedding")
class EmbeddingScorer(TokenScorer):
    """S(e) = e_j: one coordinate of the representation, i.e. a linear scorer with fixed weights.

    It has no parameters. Its gradient trains the layers below to write usefulness to this coordinate.

    Args:
        dim: width C of the representations.
        coordinate: j, counted from 0. The paper does not state it.
        activation: see :class:`TokenScorer`.

    Raises:
        PyramidionError: the coordinate is out of range.
    """

    def __init__(self, dim: int, coordinate: int = 0, activation: str = "sigmoid"):
        super().__init__(activation)
        if not 0 <= coordinate < dim:
            raise PyramidionError(
                f"--embedding-coordinate must be below --encoder-embed-dim ({dim}) and not negative, got {coordinate}"
            )
        self.coordinate = coordinate

    @classmethod
    def from_config(cls, cfg: Namespace) -> EmbeddingScorer:
        return cls(cfg.encoder_embed_dim, cfg.embedding_coordinate, cfg.scorer_activation)

    def rate(self, x: Tensor, padding_mask: Tensor | None, attention: Tensor | None = None) -> Tensor:
        return x[:, :, self.coordinate]

    def extra_repr(self) -> str:
        return f"coordinate={self.coordinate}"
