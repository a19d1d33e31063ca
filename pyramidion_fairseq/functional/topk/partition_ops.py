"""Sums over a partition as custom operators, which ``torch.compile`` treats as opaque.

Each call of an operator selects an implementation: the Triton kernels of ``partition_triton`` on CUDA, except for
float64; the compiled functions of ``csrc`` on a CPU; and otherwise, or if neither is installed, the torch
implementation of ``partition_torch``. Unlike in ``tournament``, the selection happens inside the operator, so that the
torch implementation also uses the gradient of ``partition_sum_backward_op``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .derivatives import refuse_second_derivative
from .gpu import Kernels
from .native import compiled_for, functions
from .operator_names import namespace_of
from .partition_torch import partition_sum_backward_torch, partition_sum_torch

_NAMESPACE = namespace_of(__name__)
_kernels = Kernels("partition_triton")


@torch.library.custom_op(
    f"{_NAMESPACE}::partition_sum",
    mutates_args=(),
    schema="(Tensor embeddings, Tensor weights, Tensor slots, Tensor members, Tensor? filled) -> Tensor",
)
def partition_sum_op(
    embeddings: Tensor, weights: Tensor, slots: Tensor, members: Tensor, filled: Tensor | None
) -> Tensor:
    """Compute :func:`~.partition.partition_sum`, with the same arguments."""
    if _uses_kernels(embeddings, weights):
        return _kernels().partition_sum(embeddings, weights, members, filled)
    if _uses_compiled(embeddings, weights):
        return functions().partition_sums(
            embeddings.contiguous(),
            _to_sum_dtype(weights, embeddings),
            members.contiguous(),
            None if filled is None else filled.contiguous(),
        )
    return partition_sum_torch(embeddings, weights, members, filled)


@partition_sum_op.register_fake
def _(embeddings: Tensor, weights: Tensor, slots: Tensor, members: Tensor, filled: Tensor | None) -> Tensor:
    return embeddings.new_empty(members.size(0), members.size(1), embeddings.size(2))


@torch.library.custom_op(
    f"{_NAMESPACE}::partition_sum_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor embeddings, Tensor weights, Tensor slots, bool d_embeddings, bool d_weights)"
    " -> (Tensor, Tensor)",
)
def partition_sum_backward_op(
    grad: Tensor, embeddings: Tensor, weights: Tensor, slots: Tensor, d_embeddings: bool, d_weights: bool
) -> tuple[Tensor, Tensor]:
    """Compute the gradients, as :func:`~.partition_torch.partition_sum_backward_torch` does."""
    if _uses_kernels(embeddings, weights):
        return _kernels().partition_sum_backward(grad, embeddings, weights, slots, d_embeddings, d_weights)
    if _uses_compiled(embeddings, weights):
        of_embeddings, of_weights = functions().partition_gradients(
            grad.contiguous(),
            embeddings.contiguous(),
            _to_sum_dtype(weights, embeddings),
            slots.contiguous(),
            d_embeddings,
            d_weights,
        )
        return of_embeddings, of_weights.to(weights.dtype)
    return partition_sum_backward_torch(grad, embeddings, weights, slots, d_embeddings, d_weights)


@partition_sum_backward_op.register_fake
def _(
    grad: Tensor, embeddings: Tensor, weights: Tensor, slots: Tensor, d_embeddings: bool, d_weights: bool
) -> tuple[Tensor, Tensor]:
    return (
        embeddings.new_empty(embeddings.shape if d_embeddings else 0),
        weights.new_empty(weights.shape if d_weights else 0),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:2]
    found = partition_sum_backward_op(grad, *ctx.saved_tensors, *wanted)
    return (*(g if want else None for g, want in zip(found, wanted)), None, None, None)


partition_sum_op.register_autograd(_differentiate, setup_context=_save)
partition_sum_backward_op.register_autograd(refuse_second_derivative)


def _uses_kernels(embeddings: Tensor, weights: Tensor) -> bool:
    """Return whether to use the Triton kernels, which sum in float32 and therefore do not support float64."""
    is_double = torch.float64 in (embeddings.dtype, weights.dtype)
    return not is_double and _kernels.supports(embeddings, weights)


def _uses_compiled(embeddings: Tensor, weights: Tensor) -> bool:
    """Return whether to use the compiled functions, unless the weights have a higher precision than the sums."""
    return compiled_for(embeddings, weights) and weights.element_size() <= _sum_dtype(embeddings).itemsize


def _sum_dtype(embeddings: Tensor) -> torch.dtype:
    """Return the dtype in which the compiled functions sum."""
    return torch.promote_types(embeddings.dtype, torch.float32)


def _to_sum_dtype(weights: Tensor, embeddings: Tensor) -> Tensor:
    """Convert the weights to the dtype of the sums, contiguous."""
    return weights.to(_sum_dtype(embeddings)).contiguous()
