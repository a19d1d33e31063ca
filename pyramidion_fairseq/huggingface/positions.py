"""Positions for transformers: BART's learned ones, sinusoidal ones, PEGASUS's, or none."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..functional.positions import pegasus_positions


def sinusoidal(positions: Tensor, dim: int) -> Tensor:
    """Return fairseq's sinusoidal embedding (Vaswani et al. 2017), (..., dim): first all sines, then all cosines."""
    half = dim // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000) / (half - 1))).to(positions.device)
    angles = positions.unsqueeze(-1).float() * rates
    table = torch.cat([angles.sin(), angles.cos()], dim=-1)
    return nn.functional.pad(table, (0, dim % 2))


def check_length(length: int, longest: int, what: str, remedy: str) -> None:
    """Refuse a text that is longer than the model's positions.

    Raises:
        ValueError: ``length`` exceeds ``longest``.
    """
    if length > longest:
        raise ValueError(f"the {what} has {length} tokens, but the model reads at most {longest}: {remedy}")


def positions_of(input_ids: Tensor | None, before: Any, position_ids: Tensor | None) -> Tensor:
    """Return (1, T) positions, counted from 0.

    Args:
        input_ids: (B, T, ...); None if the decoder received embeddings.
        before: number of tokens in the cache.
        position_ids: positions given by transformers, with any leading dimensions of size 1; None in older releases.
    """
    if position_ids is None:
        assert input_ids is not None
        position_ids = torch.arange(input_ids.size(1), device=input_ids.device) + before
    return position_ids.reshape(1, -1)


class LearnedPositions(nn.Embedding):
    """The learned positions of the decoder, as in transformers' BART.

    Args:
        longest: number of positions.
        dim: width.
    """

    #: Number of rows before that of the first position.
    offset = 2

    def __init__(self, longest: int, dim: int):
        super().__init__(longest + self.offset, dim)

    def forward(
        self, input_ids: Tensor | None, past_key_values_length: int = 0, position_ids: Tensor | None = None
    ) -> Tensor:
        """Return the embeddings of positions, (1, T, dim). The arguments are those of :func:`positions_of`.

        Raises:
            ValueError: the text is longer than the number of positions.
        """
        positions = positions_of(input_ids, past_key_values_length, position_ids)
        if isinstance(past_key_values_length, int):
            length, longest = past_key_values_length + positions.size(1), self.num_embeddings - self.offset
            check_length(length, longest, "summary", "cut it, or generate with a max_length")
        return super().forward(positions.to(self.weight.device) + self.offset)


class FixedPositions(nn.Module):
    """Computed positions, in place of the learned ones of transformers' BART, in the dtype of the model.

    Args:
        dim: width.
        padding_idx: fairseq counts positions from ``padding_idx + 1``; None returns zeros, that is, no positions.
        pegasus: use PEGASUS's positions, which count from 0.
    """

    def __init__(self, dim: int, padding_idx: int | None, pegasus: bool = False):
        super().__init__()
        self.dim, self.padding_idx, self.pegasus = dim, padding_idx, pegasus
        self.register_buffer("like", torch.empty(0), persistent=False)  # cast with the model's weights

    def forward(
        self, input_ids: Tensor | None, past_key_values_length: int = 0, position_ids: Tensor | None = None
    ) -> Tensor:
        """Return the embeddings of positions, (1, T, dim), computed in float32 and cast to the model's dtype.

        The arguments are those of :func:`positions_of`.
        """
        positions = positions_of(input_ids, past_key_values_length, position_ids)
        dtype = self.get_buffer("like").dtype
        if self.padding_idx is None:
            return torch.zeros(1, positions.size(1), self.dim, dtype=dtype, device=positions.device)
        if self.pegasus:
            return pegasus_positions(positions, self.dim).to(dtype)
        return sinusoidal(positions + self.padding_idx + 1, self.dim).to(dtype)
