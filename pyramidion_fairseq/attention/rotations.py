"""Random directions for locality-sensitive hashing."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RandomRotations(nn.Module):
    """Normally distributed random numbers: new ones in each call in training, fixed ones in evaluation.

    The fixed ones depend only on ``seed`` and ``shape``. They are not saved in checkpoints, because another maximum
    length may need more of them.

    Args:
        shape: shape of the numbers.
        seed: seed of the fixed numbers.
    """

    def __init__(self, *shape: int, seed: int):
        super().__init__()
        self.shape = shape
        self.fixed: Tensor
        self.seed = seed
        self.register_buffer("fixed", self.fixed_numbers(), persistent=False)

    def fixed_numbers(self) -> Tensor:
        """Return the numbers for evaluation, on the CPU."""
        # Always sampled on the CPU, because other devices have other generators.
        generator = torch.Generator("cpu").manual_seed(self.seed)
        return torch.randn(self.shape, device="cpu", generator=generator)

    def forward(self) -> Tensor:
        """Return the numbers: float32 in training, in the model's dtype in evaluation."""
        if self.training:
            return torch.randn(self.fixed.shape, device=self.fixed.device)
        return self.fixed
