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


def refuse_torch_func(*tensors: Tensor) -> None:
    """Refuse gradients by ``torch.func``, of a custom operator: torch says of it only that a method is missing.

    Args:
        tensors: the inputs that the operator is differentiable in.

    Raises:
        RuntimeError: ``torch.func.grad``, ``vjp`` or ``jacrev`` asks for the gradient of one of them.
    """
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return
    if any(map(_has_gradient_by_torch_func, tensors)):
        raise RuntimeError(
            "pooling has no gradient by torch.func (grad, vjp, jacrev): take backward() or torch.autograd.grad, or "
            "the slow functions of pyramidion_fairseq.functional.reference"
        )


def _has_gradient_by_torch_func(tensor: Tensor) -> bool:
    """Return whether one is asked for, at any level of nested transforms."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_gradtrackingtensor(tensor) and tensor.requires_grad:
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def differentiable_once(x: Tensor) -> Tensor:
    """Return x, of which a second derivative is refused, where the first one is exact and its own derivative is not.

    Args:
        x: any shape.
    """
    y: Tensor = _Once.apply(x)
    return y


class _Once(torch.autograd.Function):
    """The identity; its gradient is the gradient, by an operator that cannot be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _NoSecond.apply(grad)


class _NoSecond(_Once):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        refuse_second_derivative()
