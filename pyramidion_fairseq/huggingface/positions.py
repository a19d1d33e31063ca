"""Positions for transformers: learned ones as BART's, sinusoidal ones, PEGASUS's, or none."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..functional.positions import pegasus_positions


def sinusoidal(positions: Tensor, dim: int) -> Tensor:
    """Return fairseq's sinusoidal embedding (Vaswani et al. 2017, with sines and cosines in halves): (..., dim)."""
    half = dim // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000) / (half - 1))).to(positions.device)
    angles = positions.unsqueeze(-1).float() * rates
    table = torch.cat([angles.sin(), angles.cos()], dim=-1)
    return nn.functional.pad(table, (0, dim % 2))


def check_length(length: int, longest: int, what: str, remedy: str) -> None:
    """Refuse what is longer than the positions that the model has.

    Raises:
        ValueError: with both lengths.
    """
    if length > longest:
        raise ValueError(f"the {what} has {length} tokens, but the model reads at most {longest}: {remedy}")


def positions_of(input_ids: Tensor | None, before: Any, position_ids: Tensor | None) -> Tensor:
    """Return (1, T) positions, counted from 0.

    Args:
        input_ids: (B, T, ...), which says how many; None where the decoder got embeddings.
        before: how many tokens the cache has.
        position_ids: what transformers says they are, with any leading dimensions of size 1; older releases do not.
    """
    if position_ids is None:
        assert input_ids is not None
        position_ids = torch.arange(input_ids.size(1), device=input_ids.device) + before
    return position_ids.reshape(1, -1)


class LearnedPositions(nn.Embedding):
    """The decoder's learned positions, as transformers' BART has them.

    Args:
        longest: how many there are.
        dim: width.
    """

    #: Rows before that of the first position.
    offset = 2

    def __init__(self, longest: int, dim: int):
        super().__init__(longest + self.offset, dim)

    def forward(
        self, input_ids: Tensor | None, past_key_values_length: int = 0, position_ids: Tensor | None = None
    ) -> Tensor:
        """Return positions, of what :func:`positions_of` takes -> (1, T, dim).

        Raises:
            ValueError: there are fewer positions.
        """
        positions = positions_of(input_ids, past_key_values_length, position_ids)
        if isinstance(past_key_values_length, int):
            length, longest = past_key_values_length + positions.size(1), self.num_embeddings - self.offset
            check_length(length, longest, "summary", "cut it, or generate with a max_length")
        return super().forward(positions.to(self.weight.device) + self.offset)


class FixedPositions(nn.Module):
    """Stands where transformers' BART has its learned positions, in the dtype of the model.

    Args:
        dim: width.
        padding_idx: fairseq counts positions from ``padding_idx + 1``; None gives zeros, which is no positions.
        pegasus: whether they are those of PEGASUS, counted from 0.
    """

    def __init__(self, dim: int, padding_idx: int | None, pegasus: bool = False):
        super().__init__()
        self.dim, self.padding_idx, self.pegasus = dim, padding_idx, pegasus
        self.register_buffer("like", torch.empty(0), persistent=False)  # is cast with the model's weights

    def forward(
        self, input_ids: Tensor | None, past_key_values_length: int = 0, position_ids: Tensor | None = None
    ) -> Tensor:
        """Return positions, of what :func:`positions_of` takes -> (1, T, dim), computed in float32, in their dtype."""
        positions = positions_of(input_ids, past_key_values_length, position_ids)
        dtype = self.get_buffer("like").dtype
        if self.padding_idx is None:
            return torch.zeros(1, positions.size(1), self.dim, dtype=dtype, device=positions.device)
        if self.pegasus:
            return pegasus_positions(positions, self.dim).to(dtype)
        return sinusoidal(positions + self.padding_idx + 1, self.dim).to(dtype)
