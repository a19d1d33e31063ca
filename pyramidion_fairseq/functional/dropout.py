"""Dropout that does not wait for torch's random number generator on a CPU.

torch draws one uniform number per element, on a single core. At the paper's rate of 0.1 this takes longer than the
surrounding matrix products. Here, 64 random bits decide about four elements.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: Number of elements processed at a time, so that their random bits stay in the processor's cache.
CHUNK = 2**19
#: Number of random bits per element; probabilities are multiples of 2**-BITS.
BITS = 16


def draw_kept(shape: torch.Size | tuple[int, ...], p: float) -> Tensor:
    """Sample which elements dropout keeps, using torch's CPU generator.

    Args:
        shape: shape of the result.
        p: probability of dropping an element, in [0, 1); rounded to a multiple of 1 / 65536.

    Returns:
        ``shape`` bool on the CPU, each element True with probability :func:`kept_share`.
    """
    kept = torch.empty(shape, dtype=torch.bool)
    flat = kept.view(-1)
    bound = round(p * 2**BITS) - 2 ** (BITS - 1)  # threshold for signed 16-bit integers
    bits = torch.empty(-(-min(CHUNK, flat.numel()) * BITS // 64), dtype=torch.int64)
    for start in range(0, flat.numel(), CHUNK):
        part = flat[start : start + CHUNK]
        bits.random_(-(2**63), None)
        torch.ge(bits.view(torch.int16)[: part.numel()], bound, out=part)
    return kept


def kept_share(p: float) -> float:
    """Return the probability with which :func:`draw_kept` keeps an element."""
    return 1 - round(p * 2**BITS) / 2**BITS


def draws_bits(x: Tensor, p: float) -> bool:
    """Return whether dropout uses :func:`draw_kept`: on a CPU, unless a compiler generates the kernels.

    False if nothing would be kept or nothing would be dropped. torch rejects values that are not probabilities.
    """
    return 0 < p < 1 - 2 ** -(BITS + 1) and x.device.type == "cpu" and not torch.compiler.is_compiling()


class _Dropout(torch.autograd.Function):
    """Dropout that saves one byte per element for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        kept = draw_kept(x.shape, p)
        ctx.scale = 1 / kept_share(p)
        ctx.save_for_backward(kept)
        return torch.where(kept, x, 0).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return torch.where(kept, grad, 0).mul_(ctx.scale), None


class _ReluDropout(torch.autograd.Function):
    """ReLU followed by dropout. Only the output is saved, as it is positive exactly where the gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.scale = 1 / kept_share(p)
        out = torch.where(draw_kept(x.shape, p), x, 0).clamp_(min=0).mul_(ctx.scale)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grad, out, 0).mul_(ctx.scale), None


def dropout(x: Tensor, p: float) -> Tensor:
    """Set each element to zero with probability p, and divide the others by the probability of being kept.

    Args:
        x: any shape and floating dtype.
        p: probability of dropping an element, in [0, 1]; rounded to a multiple of 1 / 65536 on a CPU.

    Returns:
        Same shape and dtype as ``x``; ``x`` itself if p = 0.
    """
    if p == 0:
        return x
    if not draws_bits(x, p):
        return F.dropout(x, p)
    return _Dropout.apply(x, p)


def relu_dropout(x: Tensor, p: float) -> Tensor:
    """Compute ``dropout(relu(x), p)``; on a CPU as one autograd function that saves only its output.

    Args:
        x, p: see :func:`dropout`.
    """
    if not draws_bits(x, p):
        return dropout(x.relu(), p)
    return _ReluDropout.apply(x, p)
