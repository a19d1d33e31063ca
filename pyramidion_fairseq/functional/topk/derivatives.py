"""What custom operators say where someone differentiates them twice or in forward mode, or traces them."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad


def refuse_second_derivative(*_: Any) -> NoReturn:
    """Stand as the derivative of an operator that is itself a derivative.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "pooling is differentiable once, and this asks for its second derivative: differentiate without "
        "create_graph=True, or take the slow functions of pyramidion_fairseq.functional.reference"
    )


def refuse_tracing() -> None:
    """Refuse to be recorded by ``torch.jit.trace``: the tournament's size would be that of the example's length.

    Raises:
        RuntimeError: a trace is going on.
    """
    if torch.jit.is_tracing():
        raise RuntimeError(
            "successive_halving_topk cannot be recorded by torch.jit.trace, as its rounds depend on the number of "
            "tokens: take torch.compile"
        )


def refuse_forward_mode(*tensors: Tensor) -> None:
    """Refuse tangents, which a custom operator would drop: the derivative would be 0.

    Args:
        tensors: what the operator is differentiable in.

    Raises:
        RuntimeError: one of them has a tangent, as of ``torch.func.jvp`` or ``torch.autograd.forward_ad``.
    """
    if torch.compiler.is_compiling():
        return
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise RuntimeError(
            "pooling has no derivative in forward mode (torch.func.jvp, jacfwd; torch.autograd.forward_ad): "
            "take backward(), or the slow functions of pyramidion_fairseq.functional.reference"
        )
