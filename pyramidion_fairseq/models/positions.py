"""Fixed positional embeddings that fairseq does not have."""

from __future__ import annotations

from typing import Any

import torch
from fairseq.utils import make_positions
from torch import Tensor, nn

from ..functional.positions import pegasus_positions


class PegasusPositions(nn.Module):
    """PEGASUS's positional embeddings, with the interface of fairseq's.

    Args:
        longest: initial number of positions; more are computed when needed.
        dim: width of the embeddings.
        padding_idx: id of the padding symbol, which is not counted.
    """

    #: Required by fairseq. The number of positions is not limited.
    max_positions = 2**20
    table: Tensor
    """(positions, dim) embeddings computed so far."""

    def __init__(self, longest: int, dim: int, padding_idx: int):
        super().__init__()
        self.dim, self.padding_idx = dim, padding_idx
        self.register_buffer("table", pegasus_positions(torch.arange(longest), dim), persistent=False)

    def first_positions(self, count: int) -> Tensor:
        """Return the embeddings of the first positions, (count, dim)."""
        if count > self.table.size(0):
            positions = torch.arange(count, device=self.table.device)
            self.table = pegasus_positions(positions, self.dim).to(self.table)
        return self.table[:count]

    def forward(
        self, tokens: Tensor, incremental_state: dict[str, Any] | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Return (B, T, dim) for (B, T) ids; with ``incremental_state`` (B, 1, dim), those of the newest token."""
        table = self.first_positions(tokens.size(1))
        if incremental_state is not None:
            return table[-1].expand(tokens.size(0), 1, -1)
        counted = make_positions(tokens, self.padding_idx) - self.padding_idx - 1
        return table[counted.clamp(min=0)]
