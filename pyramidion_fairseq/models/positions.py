"""Fixed positions that fairseq does not have."""

from __future__ import annotations

from typing import Any

import torch
from fairseq.utils import make_positions
from torch import Tensor, nn

from ..functional.positions import pegasus_positions


class PegasusPositions(nn.Module):
    """PEGASUS's positions, by the interface of fairseq's embedding of positions.

    Args:
        longest: positions to begin with; more are computed when they are asked for.
        dim: width.
        padding_idx: id of padding, which is not counted.
    """

    #: What fairseq asks for; there is no end.
    max_positions = 2**20
    table: Tensor
    """(positions, dim), as far as they were asked for."""

    def __init__(self, longest: int, dim: int, padding_idx: int):
        super().__init__()
        self.dim, self.padding_idx = dim, padding_idx
        self.register_buffer("table", pegasus_positions(torch.arange(longest), dim), persistent=False)

    def first_positions(self, count: int) -> Tensor:
        """Return the first positions, (count, dim)."""
        if count > self.table.size(0):
            positions = torch.arange(count, device=self.table.device)
            self.table = pegasus_positions(positions, self.dim).to(self.table)
        return self.table[:count]

    def forward(
        self, tokens: Tensor, incremental_state: dict[str, Any] | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Return (B, T, dim) for (B, T) ids; (B, 1, dim), those of the newest token, with ``incremental_state``."""
        table = self.first_positions(tokens.size(1))
        if incremental_state is not None:
            return table[-1].expand(tokens.size(0), 1, -1)
        counted = make_positions(tokens, self.padding_idx) - self.padding_idx - 1
        return table[counted.clamp(min=0)]
