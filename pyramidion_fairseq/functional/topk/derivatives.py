"""Errors for what custom operators do not support: second derivatives, forward mode and tracing."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad


def refuse_second_derivative(*_: Any) -> NoReturn:
    """Raise an error. Registered as the derivative of operators that compute a derivative.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "pooling is differentiable once, and this asks for its second derivative: differentiate without "
        "create_graph=True, or take the slow functions of pyramidion_fairseq.functional.reference"
    )


def refuse_tracing() -> None:
    """Raise an error under ``torch.jit.trace``, which would fix the number of rounds to that of the example input.

    Raises:
        RuntimeError: tracing is active.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # documented, but not in torch.jit's __all__
        raise RuntimeError(
            "successive_halving_topk cannot be recorded by torch.jit.trace, as its rounds depend on the number of "
            "tokens: take torch.compile"
        )


def refuse_forward_mode(*tensors: Tensor) -> None:
    """Raise an error for forward-mode tangents, which a custom operator would drop, giving a derivative of 0.

    Args:
        tensors: the inputs with respect to which the operator is differentiable.

    Raises:
        RuntimeError: one of them has a tangent, for instance of ``torch.func.jvp`` or ``torch.autograd.forward_ad``.
    """
    if torch.compiler.is_compiling():
        return
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise RuntimeError(
            "pooling has no derivative in forward mode (torch.func.jvp, jacfwd; torch.autograd.forward_ad): "
            "take backward(), or the slow functions of pyramidion_fairseq.functional.reference"
        )


def refuse_torch_func(*tensors: Tensor) -> None:
    """Raise an error for gradients by ``torch.func``, for which torch's own error only names a missing method.

    Args:
        tensors: the inputs with respect to which the operator is differentiable.

    Raises:
        RuntimeError: ``torch.func.grad``, ``vjp`` or ``jacrev`` requests the gradient of one of them.
    """
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return
    if any(map(_has_gradient_by_torch_func, tensors)):
        raise RuntimeError(
            "pooling has no gradient by torch.func (grad, vjp, jacrev): take backward() or torch.autograd.grad, or "
            "the slow functions of pyramidion_fairseq.functional.reference"
        )


def _has_gradient_by_torch_func(tensor: Tensor) -> bool:
    """Return whether ``torch.func`` requests a gradient of a tensor, at any level of nested transforms."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_gradtrackingtensor(tensor) and tensor.requires_grad:
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def differentiable_once(x: Tensor) -> Tensor:
    """Return x, whose first derivative is exact and whose second derivative raises an error.

    For functions whose first derivative is correct while the derivative of that derivative would not be.

    Args:
        x: any shape.
    """
    y: Tensor = _FirstDerivativeOnly.apply(x)
    return y


class _FirstDerivativeOnly(torch.autograd.Function):
    """Identity whose gradient cannot be differentiated again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _RefuseSecondDerivative.apply(grad)


class _RefuseSecondDerivative(_FirstDerivativeOnly):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        refuse_second_derivative()
