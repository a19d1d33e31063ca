"""Random tensors and masks, and a record of the largest tensor."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def heads(batch: int, length: int, number: int, dim: int, count: int, seed: int = 0) -> list:
    """Return ``count`` random (batch, length, number, dim) tensors in float64, such as queries, keys and values."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, length, number, dim, dtype=torch.float64, generator=generator) for _ in range(count)]


def ragged_mask(lengths):
    """Return the (B, T) padding mask of right-padded documents, or None if all are equally long."""
    mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    return mask if mask.any() else None


class LargestTensor(TorchDispatchMode):
    """A mode that records elements and bytes of the largest tensor of an operation, of one dtype or of any."""

    def __init__(self, dtype=None):
        super().__init__()
        self.dtype, self.numel, self.nbytes = dtype, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor) and self.dtype in (None, tensor.dtype):
                self.numel, self.nbytes = max(self.numel, tensor.numel()), max(self.nbytes, tensor.nbytes)
        return out
