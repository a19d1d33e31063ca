"""Refusals of what custom operators cannot do: second derivatives, forward mode, tracing."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad


def refuse_second_derivative(*_: Any) -> NoReturn:
    """Refuse to be differentiated: the derivative of an operator that computes a derivative.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "pooling is differentiable once, and this asks for its second derivative: differentiate without "
        "create_graph=True, or take the slow functions of pyramidion_fairseq.functional.reference"
    )


def refuse_tracing() -> None:
    """Refuse to be recorded by ``torch.jit.trace``, which would keep the rounds of the example's length.

    Raises:
        RuntimeError: a trace is going on.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # documented, but not in torch.jit's __all__
        raise RuntimeError(
            "successive_halving_topk cannot be recorded by torch.jit.trace, as its rounds depend on the number of "
            "tokens: take torch.compile"
        )


def refuse_forward_mode(*tensors: Tensor) -> None:
    """Refuse tangents of forward mode, which a custom operator would drop, so that the derivative were 0.

    Args:
        tensors: the inputs that the operator is differentiable in.

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
