"""Weighted sums over the parts of a partition: what every pooling does to representations, in one read of them.

Two custom operators, so that ``torch.compile`` takes them as they are, without looking inside. On CUDA they are the
Triton kernels of ``partition_triton``, on a CPU they are compiled (``csrc``); in float64 on CUDA, elsewhere,
and where nothing is compiled, they are operations of torch.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from .derivatives import refuse_forward_mode, refuse_second_derivative
from .gpu import Kernels
from .native import compiled_for, functions

#: One for each copy of this file: a model exported to transformers has its own, and to define an operator twice
#: crashes what holds the first.
_NAMESPACE = re.sub(r"\W", "_", __name__)
_kernels = Kernels("partition_triton")


def partition_sum(
    embeddings: Tensor, weights: Tensor, slots: Tensor, members: Tensor, filled: Tensor | None = None
) -> Tensor:
    """``out[b, j] = sum of weights[b, i] * embeddings[b, i] over the tokens i with slots[b, i] == j``.

    Forward reads each embedding once and writes the k sums; backward writes each gradient once. Both are
    deterministic. Differentiable (once) in ``embeddings`` and ``weights``. A slot of which nothing is filled is 0,
    and so is the gradient of a token with weight 0, whatever NaN the others hold.

    Args:
        embeddings: (B, n, d), float64, float32, float16 or bfloat16.
        weights: (B, n), any floating dtype; 0 for tokens that contribute to no slot.
        slots: (B, n) int64 in [0, k), the slot of every token.
        members: (B, k, g) int64 in [0, n), the tokens of every slot: the inverse of ``slots``.
        filled: (B, k, g) bool, False where ``members`` is only a placeholder; None where it nowhere is.

    Returns:
        (B, k, d) in the dtype of ``embeddings``.

    Raises:
        RuntimeError: a second derivative, or one in forward mode, is asked for.
    """
    refuse_forward_mode(embeddings, weights)
    return _partition_sum(embeddings, weights, slots, members, filled)


@torch.library.custom_op(
    f"{_NAMESPACE}::partition_sum",
    mutates_args=(),
    schema="(Tensor embeddings, Tensor weights, Tensor slots, Tensor members, Tensor? filled) -> Tensor",
)
def _partition_sum(
    embeddings: Tensor, weights: Tensor, slots: Tensor, members: Tensor, filled: Tensor | None
) -> Tensor:
    if _on_gpu(embeddings, weights):
        return _kernels().partition_sum(embeddings, weights, members, filled)
    if _is_compiled(embeddings, weights):
        inputs = embeddings.contiguous(), _as_summed(weights, embeddings), members.contiguous()
        return functions().partition_sums(*inputs, None if filled is None else filled.contiguous())
    return sum_members(embeddings, weights, members, filled)


@_partition_sum.register_fake
def _(embeddings: Tensor, weights: Tensor, slots: Tensor, members: Tensor, filled: Tensor | None) -> Tensor:
    return embeddings.new_empty(members.size(0), members.size(1), embeddings.size(2))


@torch.library.custom_op(
    f"{_NAMESPACE}::partition_sum_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor embeddings, Tensor weights, Tensor slots, bool d_embeddings, bool d_weights)"
    " -> (Tensor, Tensor)",
)
def _partition_sum_backward(
    grad: Tensor, embeddings: Tensor, weights: Tensor, slots: Tensor, d_embeddings: bool, d_weights: bool
) -> tuple[Tensor, Tensor]:
    if _on_gpu(embeddings, weights):
        return _kernels().partition_sum_backward(grad, embeddings, weights, slots, d_embeddings, d_weights)
    if _is_compiled(embeddings, weights):
        inputs = grad.contiguous(), embeddings.contiguous(), _as_summed(weights, embeddings), slots.contiguous()
        of_embeddings, of_weights = functions().partition_gradients(*inputs, d_embeddings, d_weights)
        return of_embeddings, of_weights.to(weights.dtype)
    return gradients(grad, embeddings, weights, slots, d_embeddings, d_weights)


@_partition_sum_backward.register_fake
def _(
    grad: Tensor, embeddings: Tensor, weights: Tensor, slots: Tensor, d_embeddings: bool, d_weights: bool
) -> tuple[Tensor, Tensor]:
    return (
        embeddings.new_empty(embeddings.shape if d_embeddings else 0),
        weights.new_empty(weights.shape if d_weights else 0),
    )


def _save(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _differentiate(ctx: Any, grad: Tensor) -> tuple:
    wanted = ctx.needs_input_grad[:2]
    found = _partition_sum_backward(grad, *ctx.saved_tensors, *wanted)
    return (*(g if want else None for g, want in zip(found, wanted)), None, None, None)


_partition_sum.register_autograd(_differentiate, setup_context=_save)
_partition_sum_backward.register_autograd(refuse_second_derivative)


def sum_members(embeddings: Tensor, weights: Tensor, members: Tensor, filled: Tensor | None) -> Tensor:
    """The forward pass of :func:`partition_sum` in operations of torch."""
    (batch, length, dim), (k, group) = embeddings.shape, members.shape[1:]
    members = members.flatten(1)
    shares = weights.gather(1, members)
    if filled is not None:
        shares = shares.masked_fill(~filled.flatten(1), 0)
    rows = (members + _offsets(batch, length, members)).flatten()
    starts = torch.arange(0, rows.numel(), group, device=rows.device)
    flat = embeddings.reshape(batch * length, dim)
    sums = _weighted_bags(flat, rows, starts, shares.to(flat.dtype).flatten()).view(batch, k, dim)
    # A placeholder may stand for NaN, and 0 * NaN is NaN.
    return sums if filled is None else sums.masked_fill_(~filled.any(dim=2, keepdim=True), 0)


def gradients(
    grad: Tensor, embeddings: Tensor, weights: Tensor, slots: Tensor, d_embeddings: bool, d_weights: bool
) -> tuple[Tensor, Tensor]:
    """The backward pass of :func:`partition_sum` in operations of torch; an empty tensor for what is not wanted.

    Every token belongs to one slot, so both gradients are gathers: no scatter-add, hence deterministic. That of a
    token is its weight times its slot's; that of its weight is <its slot's, token>.
    """
    (batch, length, dim), k = embeddings.shape, grad.size(1)
    rows = (slots + _offsets(batch, k, slots)).flatten()
    tokens = torch.arange(rows.numel(), device=rows.device)
    grad, embeddings = grad.reshape(batch * k, dim), embeddings.reshape(batch * length, dim)
    of_embeddings, of_weights = embeddings.new_empty(0), weights.new_empty(0)
    if d_embeddings:
        zero, shares = grad.new_zeros(1, dim), weights.flatten()  # its row is read where 0 * NaN would be NaN
        above = torch.where(shares.eq(0), batch * k, rows)
        of_embeddings = _weighted_bags(torch.cat([grad, zero]), above, tokens, shares.to(grad.dtype))
        of_embeddings = of_embeddings.view(batch, length, dim)
    if d_weights:  # in the weights' precision, as a sum over d overflows float16; without a gathered copy of grad
        of_weights = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            grad.to(weights.dtype), embeddings.to(weights.dtype), tokens, tokens, rows, 0
        ).view_as(weights)
    return of_embeddings, of_weights


def _weighted_bags(rows_of: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    return torch.embedding_bag(rows_of, rows, starts, mode=0, per_sample_weights=weights)[0]


def _offsets(batch: int, size: int, like: Tensor) -> Tensor:
    """(B, 1): where each document starts among the rows of all."""
    return torch.arange(0, batch * size, size, device=like.device).unsqueeze(1)


def _is_compiled(embeddings: Tensor, weights: Tensor) -> bool:
    return compiled_for(embeddings, weights) and weights.element_size() <= _summed(embeddings).itemsize


def _summed(embeddings: Tensor) -> torch.dtype:
    """The precision in which the compiled functions sum."""
    return torch.promote_types(embeddings.dtype, torch.float32)


def _as_summed(weights: Tensor, embeddings: Tensor) -> Tensor:
    return weights.to(_summed(embeddings)).contiguous()


def _on_gpu(*tensors: Tensor) -> bool:
    return _kernels.supports(*tensors) and all(x.dtype != torch.float64 for x in tensors)
