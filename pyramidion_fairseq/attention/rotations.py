"""Random directions for locality-sensitive hashing."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RandomRotations(nn.Module):
    """Normal random numbers: fresh ones at each call in training, always the same ones in evaluation.

    Those of evaluation depend on ``seed`` and ``shape`` alone. They are not saved in checkpoints, since another
    maximum length may need more of them.

    Args:
        shape: of the numbers.
        seed: of those for evaluation.
    """

    def __init__(self, *shape: int, seed: int):
        super().__init__()
        self.shape = shape
        self.fixed: Tensor
        self.seed = seed
        self.register_buffer("fixed", self.fixed_numbers(), persistent=False)

    def fixed_numbers(self) -> Tensor:
        """Return the numbers for evaluation, on the CPU."""
        # Always drawn on the CPU: other devices have other generators.
        generator = torch.Generator("cpu").manual_seed(self.seed)
        return torch.randn(self.shape, device="cpu", generator=generator)

    def forward(self) -> Tensor:
        """Return the numbers, float32 in training; in the model's precision in evaluation."""
        if self.training:
            return torch.randn(self.fixed.shape, device=self.fixed.device)
        return self.fixed
