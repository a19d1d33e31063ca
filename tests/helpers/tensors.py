"""Tensors and masks, and the largest tensor of an operation."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def heads(batch: int, length: int, number: int, dim: int, count: int, seed: int = 0) -> list:
    """``count`` random (batch, length, number, dim) tensors, float64: queries, keys and values, for instance."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, length, number, dim, dtype=torch.float64, generator=generator) for _ in range(count)]


def ragged_mask(lengths):
    """(B, T) padding mask of right-padded documents; None where all are equally long."""
    mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    return mask if mask.any() else None


class LargestTensor(TorchDispatchMode):
    """Records how many numbers, and bytes, the largest tensor of an operation has; of one dtype, if one is given."""

    def __init__(self, dtype=None):
        super().__init__()
        self.dtype, self.numel, self.nbytes = dtype, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor) and self.dtype in (None, tensor.dtype):
                self.numel, self.nbytes = max(self.numel, tensor.numel()), max(self.nbytes, tensor.nbytes)
        return out
