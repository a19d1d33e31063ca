"""The tournament as custom operators: compiled code on a CPU, Triton kernels on a GPU.

``torch.compile`` treats custom operators as opaque. ``base`` is the base of the peaked softmax; None is the plain
softmax.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .derivatives import refuse_second_derivative
from .gpu import Kernels
from .native import functions
from .operator_names import namespace_of

_NAMESPACE = namespace_of(__name__)
kernels = Kernels("tournament_triton")
_gradient_kernels = Kernels("tournament_triton_gradient")


def empty_outputs(scores: Tensor, padding_mask: Tensor | None, padded_length: int, k: int) -> tuple[Tensor, ...]:
    """Allocate the fields of ``TournamentResult``. ``filled`` has batch size 0 if all members are filled."""
    batch, length = scores.shape
    may_be_empty = padding_mask is not None or padded_length != length
    return (
        scores.new_empty(batch, k),
        scores.new_empty(batch, length, dtype=torch.int64),
        scores.new_empty(batch, length),
        scores.new_empty(batch, k, padded_length // k, dtype=torch.int64),
        scores.new_empty(batch if may_be_empty else 0, k, padded_length // k, dtype=torch.bool),
    )


@torch.library.custom_op(
    f"{_NAMESPACE}::tournament_cpu",
    mutates_args=(),
    schema="(Tensor scores, Tensor? padding_mask, int padded_length, int k, float? base, bool sort,"
    " bool preserve_order)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def tournament_cpu(
    scores: Tensor,
    padding_mask: Tensor | None,
    padded_length: int,
    k: int,
    base: float | None,
    sort: bool,
    preserve_order: bool,
) -> tuple[Tensor, ...]:
    """Run the tournament in compiled code. The last output is a byte tensor with the state for the backward pass."""
    padding_mask = None if padding_mask is None else padding_mask.contiguous()
    return functions().tournament(scores.contiguous(), padding_mask, padded_length, k, base, sort, preserve_order)


@tournament_cpu.register_fake
def _(
    scores: Tensor,
    padding_mask: Tensor | None,
    padded_length: int,
    k: int,
    base: float | None,
    sort: bool,
    preserve_order: bool,
) -> tuple[Tensor, ...]:
    record = functions().record_bytes(padded_length, k, scores.element_size())
    return *empty_outputs(scores, padding_mask, padded_length, k), scores.new_empty(
        scores.size(0), record, dtype=torch.uint8
    )


@torch.library.custom_op(
    f"{_NAMESPACE}::tournament_cpu_backward",
    mutates_args=(),
    schema="(Tensor d_slot_scores, Tensor d_weights, Tensor? padding_mask, Tensor record, int padded_length,"
    " float? base)"
    " -> Tensor",
)
def tournament_cpu_backward(
    d_slot_scores: Tensor,
    d_weights: Tensor,
    padding_mask: Tensor | None,
    record: Tensor,
    padded_length: int,
    base: float | None,
) -> Tensor:
    """Compute the gradient of the scores in compiled code: (B, k), (B, n), (B, n) or None, (B, bytes) -> (B, n)."""
    padding_mask = None if padding_mask is None else padding_mask.contiguous()
    return functions().tournament_backward(
        d_slot_scores.contiguous(), d_weights.contiguous(), padding_mask, record, padded_length, base
    )


@tournament_cpu_backward.register_fake
def _(
    d_slot_scores: Tensor,
    d_weights: Tensor,
    padding_mask: Tensor | None,
    record: Tensor,
    padded_length: int,
    base: float | None,
) -> Tensor:
    return d_weights.new_empty(d_weights.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, padding_mask, ctx.padded_length, _, ctx.base, _, _ = inputs
    ctx.save_for_backward(padding_mask, output[-1])


def _differentiate(
    ctx: Any, d_slot_scores: Tensor, d_slots: Tensor, d_weights: Tensor, *_: Tensor
) -> tuple[Tensor | None, ...]:
    padding_mask, record = ctx.saved_tensors
    d_scores = tournament_cpu_backward(d_slot_scores, d_weights, padding_mask, record, ctx.padded_length, ctx.base)
    return d_scores, None, None, None, None, None, None


tournament_cpu.register_autograd(_differentiate, setup_context=_save)
tournament_cpu_backward.register_autograd(refuse_second_derivative)


@torch.library.custom_op(
    f"{_NAMESPACE}::tournament_gpu",
    mutates_args=(),
    schema="(Tensor scores, Tensor? padding_mask, int padded_length, int k, float? base, bool sort,"
    " bool preserve_order)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def tournament_gpu(
    scores: Tensor,
    padding_mask: Tensor | None,
    padded_length: int,
    k: int,
    base: float | None,
    sort: bool,
    preserve_order: bool,
) -> tuple[Tensor, ...]:
    """Run the tournament in Triton kernels."""
    return kernels().tournament(scores, padding_mask, padded_length, k, base, sort, preserve_order)


@tournament_gpu.register_fake
def _(
    scores: Tensor,
    padding_mask: Tensor | None,
    padded_length: int,
    k: int,
    base: float | None,
    sort: bool,
    preserve_order: bool,
) -> tuple[Tensor, ...]:
    return empty_outputs(scores, padding_mask, padded_length, k)


@torch.library.custom_op(
    f"{_NAMESPACE}::tournament_gpu_backward",
    mutates_args=(),
    schema="(Tensor d_slot_scores, Tensor d_weights, Tensor scores, Tensor members, Tensor filled, float? base)"
    " -> Tensor",
)
def tournament_gpu_backward(
    d_slot_scores: Tensor, d_weights: Tensor, scores: Tensor, members: Tensor, filled: Tensor, base: float | None
) -> Tensor:
    """Compute the gradient of the scores in a Triton kernel: (B, k), (B, n), (B, n), (B, k, g) twice -> (B, n)."""
    return _gradient_kernels().tournament_backward(d_slot_scores, d_weights, scores, members, filled, base)


@tournament_gpu_backward.register_fake
def _(
    d_slot_scores: Tensor, d_weights: Tensor, scores: Tensor, members: Tensor, filled: Tensor, base: float | None
) -> Tensor:
    return d_weights.new_empty(d_weights.shape)


def _save_on_gpu(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.base = inputs[4]
    ctx.save_for_backward(inputs[0], *output[3:])


def _differentiate_on_gpu(
    ctx: Any, d_slot_scores: Tensor, d_slots: Tensor, d_weights: Tensor, *_: Tensor
) -> tuple[Tensor | None, ...]:
    d_scores = tournament_gpu_backward(d_slot_scores, d_weights, *ctx.saved_tensors, ctx.base)
    return d_scores, None, None, None, None, None, None


tournament_gpu.register_autograd(_differentiate_on_gpu, setup_context=_save_on_gpu)
tournament_gpu_backward.register_autograd(refuse_second_derivative)
