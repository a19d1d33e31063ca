"""The tournament of successive halving, on scores alone.

On a CPU it is compiled (native.cpp), on a GPU it is kernels of Triton (tournament_triton). In operations of torch,
which are the reference of both, it has two parts: the draw, which has no gradient, and the play, which has.

A bracket is (B, g, k): each of the k slots has g places. In the first round, place j of the first half meets place j
of the second half, and what comes of it, the left one's successor, takes place j; so on with the halves of the first
half. A round of the play is then one operation on two halves, without an index.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .derivatives import refuse_forward_mode, refuse_second_derivative
from .gpu import Kernels
from .native import compiled_for, functions

#: One for each copy of this file, as in ``partition``.
_NAMESPACE = re.sub(r"\W", "_", __name__)
_kernels = Kernels("tournament_triton")


class Played(NamedTuple):
    """What comes of a tournament of (B, n) scores for k slots."""

    slot_scores: Tensor
    """(B, k)."""
    slots: Tensor
    """(B, n) int64, the slot that every token went to; 0 for padding."""
    weights: Tensor
    """(B, n) the weight of every token in its slot; 0 for padding."""
    members: Tensor
    """(B, k, g) int64, the tokens of every slot, its winner first."""
    filled: Tensor | None
    """(B, k, g) bool, False where ``members`` is only a placeholder; None where it nowhere is."""


def tournament(
    scores: Tensor, padding_mask: Tensor | None, k: int, base: float | None, sort: bool, preserve_order: bool
) -> Played:
    """The matches of ``successive_halving_topk``, whose arguments these are. Differentiable once in the scores.

    Args:
        scores: (B, n) float32 or float64, n > k.
        padding_mask: (B, n) bool, or None.

    Raises:
        RuntimeError: a second derivative, or one in forward mode, is asked for.
    """
    refuse_forward_mode(scores)
    length = scores.size(1)
    places = k << ((length - 1) // k).bit_length()  # k * 2^ceil(log2(n / k)), in whole numbers
    # Of infinite scores the difference would be NaN; of huge ones it would overflow in the gradient.
    limit = torch.finfo(scores.dtype).max ** 0.5
    scores = scores.clamp(-limit, limit)
    if compiled_for(scores, padding_mask):
        *played, filled, _ = _play_on_cpu(scores, padding_mask, places, k, base or 0.0, sort, preserve_order)
    elif sort and scores.dtype == torch.float32 and _kernels.take(scores, padding_mask):
        *played, filled = _play_on_gpu(scores, padding_mask, places, k, base or 0.0, preserve_order)
    else:
        return _play(scores, padding_mask, places, k, base, sort, preserve_order)
    return Played(*played, None if padding_mask is None and places == length else filled)


def _play(scores, padding_mask, places: int, k: int, base, sort: bool, preserve_order: bool) -> Played:
    """In operations of torch."""
    length = scores.size(1)
    keys, may_be_empty = scores.detach(), padding_mask is not None or places != length
    if padding_mask is not None:
        scores, keys = scores.masked_fill(padding_mask, 0), keys.masked_fill(padding_mask, -math.inf)
    if places != length:
        scores, keys = F.pad(scores, (0, places - length)), F.pad(keys, (0, places - length), value=-math.inf)
    orders = draw(keys, k, base, sort, may_be_empty)
    numbers = torch.arange(k, device=keys.device).expand(len(keys), k)
    members = bracket(orders, _slot_order(orders, numbers, keys, padding_mask is not None, preserve_order))
    flat = members.flatten(1)
    filled = ~keys.gather(1, flat).view_as(members).isneginf() if may_be_empty else None
    slot_scores, shares = play(scores.gather(1, flat).view_as(members), filled, base)

    slots = numbers.unsqueeze(1).expand_as(members).flatten(1)
    slots = torch.empty_like(flat).scatter(1, flat, slots)[:, :length]
    weights = torch.empty_like(scores).scatter(1, flat, shares.flatten(1))[:, :length]
    if padding_mask is not None:
        slots, weights = slots.masked_fill(padding_mask, 0), weights.masked_fill(padding_mask, 0)
    members = members.transpose(1, 2)
    if filled is not None:
        # A bye or a padded member points to its slot's winner, with weight 0, and those of an empty slot to the first
        # slot's: padding is not even read.
        filled = filled.transpose(1, 2)
        stand_ins = torch.where(filled[:, :, :1], members[:, :, :1], members[:, :1, :1])
        members = torch.where(filled, members, stand_ins).clamp(max=length - 1)
    return Played(slot_scores, slots, weights, members, filled)


@torch.library.custom_op(
    f"{_NAMESPACE}::play_on_cpu",
    mutates_args=(),
    schema="(Tensor scores, Tensor? padding_mask, int places, int k, float base, bool sort, bool preserve_order)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _play_on_cpu(scores, padding_mask, places, k, base, sort, preserve_order):
    """Compiled. Base 0 is the plain softmax. The last output is what the backward pass needs, in bytes."""
    padding_mask = None if padding_mask is None else padding_mask.contiguous()
    return functions().tournament(scores.contiguous(), padding_mask, places, k, base, sort, preserve_order)


@_play_on_cpu.register_fake
def _(scores, padding_mask, places, k, base, sort, preserve_order):
    record = functions().record_bytes(places, k, scores.element_size())
    return *make_room(scores, padding_mask, places, k), scores.new_empty(scores.size(0), record, dtype=torch.uint8)


def make_room(scores: Tensor, padding_mask: Tensor | None, places: int, k: int) -> tuple[Tensor, ...]:
    """Room for what :class:`Played` has; ``filled`` without documents where no place can be empty."""
    batch, length = scores.shape
    may_be_empty = padding_mask is not None or places != length
    return (
        scores.new_empty(batch, k),
        scores.new_empty(batch, length, dtype=torch.int64),
        scores.new_empty(batch, length),
        scores.new_empty(batch, k, places // k, dtype=torch.int64),
        scores.new_empty(batch if may_be_empty else 0, k, places // k, dtype=torch.bool),
    )


@torch.library.custom_op(
    f"{_NAMESPACE}::play_on_cpu_backward",
    mutates_args=(),
    schema="(Tensor d_slot_scores, Tensor d_weights, Tensor? padding_mask, Tensor record, int places, float base)"
    " -> Tensor",
)
def _play_on_cpu_backward(d_slot_scores, d_weights, padding_mask, record, places, base):
    padding_mask = None if padding_mask is None else padding_mask.contiguous()
    return functions().tournament_backward(
        d_slot_scores.contiguous(), d_weights.contiguous(), padding_mask, record, places, base
    )


@_play_on_cpu_backward.register_fake
def _(d_slot_scores, d_weights, padding_mask, record, places, base):
    return d_weights.new_empty(d_weights.shape)


def _save(ctx, inputs, output) -> None:
    _, padding_mask, ctx.places, _, ctx.base, _, _ = inputs
    ctx.save_for_backward(padding_mask, output[-1])


def _differentiate(ctx, d_slot_scores, d_slots, d_weights, *_):
    padding_mask, record = ctx.saved_tensors
    d_scores = _play_on_cpu_backward(d_slot_scores, d_weights, padding_mask, record, ctx.places, ctx.base)
    return d_scores, None, None, None, None, None, None


_play_on_cpu.register_autograd(_differentiate, setup_context=_save)
_play_on_cpu_backward.register_autograd(refuse_second_derivative)


@torch.library.custom_op(
    f"{_NAMESPACE}::play_on_gpu",
    mutates_args=(),
    schema="(Tensor scores, Tensor? padding_mask, int places, int k, float base, bool preserve_order)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _play_on_gpu(scores, padding_mask, places, k, base, preserve_order):
    """With sorting. Base 0 is the plain softmax."""
    return _kernels().tournament(scores, padding_mask, places, k, base, preserve_order)


@_play_on_gpu.register_fake
def _(scores, padding_mask, places, k, base, preserve_order):
    return make_room(scores, padding_mask, places, k)


@torch.library.custom_op(
    f"{_NAMESPACE}::play_on_gpu_backward",
    mutates_args=(),
    schema="(Tensor d_slot_scores, Tensor d_weights, Tensor scores, Tensor members, Tensor filled, float base)"
    " -> Tensor",
)
def _play_on_gpu_backward(d_slot_scores, d_weights, scores, members, filled, base):
    return _kernels().tournament_backward(d_slot_scores, d_weights, scores, members, filled, base)


@_play_on_gpu_backward.register_fake
def _(d_slot_scores, d_weights, scores, members, filled, base):
    return d_weights.new_empty(d_weights.shape)


def _save_on_gpu(ctx, inputs, output) -> None:
    ctx.base = inputs[4]
    ctx.save_for_backward(inputs[0], *output[3:])


def _differentiate_on_gpu(ctx, d_slot_scores, d_slots, d_weights, *_):
    return _play_on_gpu_backward(d_slot_scores, d_weights, *ctx.saved_tensors, ctx.base), None, None, None, None, None


_play_on_gpu.register_autograd(_differentiate_on_gpu, setup_context=_save_on_gpu)
_play_on_gpu_backward.register_autograd(refuse_second_derivative)


@torch.no_grad()
def draw(scores: Tensor, k: int, base: float | None, sort: bool, may_be_empty: bool) -> list[Tensor | None]:
    """Play for the order of the candidates in each round, of m of which number i meets m + 1 - i.

    Args:
        scores: (B, m), m = k * 2^rounds; -inf on empty places, which every candidate beats.
        k: number of slots.
        base: of the peaked softmax, or None.
        sort: False leaves the candidates where they are, empty places last.
        may_be_empty: some place may be empty.

    Returns:
        For each round, (B, m) int64, the candidates in order, m half as many as before; None where they stay in the
        order of the round before.
    """
    orders, size = [], scores.size(1)
    while size > k:
        half, order = size // 2, None
        if sort:
            order = scores.sort(dim=1, descending=True, stable=True).indices
        elif may_be_empty and not orders:  # once: what is empty is last from then on
            order = scores.isneginf().long().sort(dim=1, stable=True).indices
        orders.append(order)
        if half > k:  # the scores after the last round change nothing here
            scores = scores if order is None else scores.gather(1, order)
            (left, right), (strong, weak) = (
                (x[:, :half], x[:, half:].flip(1)) for x in (scores, strength(scores, base))
            )
            scores = torch.lerp(right, left, torch.sigmoid(strong - weak))
            if may_be_empty:
                scores = torch.where(right.isneginf(), left, scores)
        size = half
    return orders


def winners(orders: list[Tensor | None], slots: Tensor) -> Tensor:
    """The candidate that went furthest in each slot: (B, k) slots by their number in the last round -> (B, k)."""
    for order in reversed(orders):
        slots = slots if order is None else order.gather(1, slots)
    return slots


def bracket(orders: list[Tensor | None], slots: Tensor) -> Tensor:
    """All candidates of each slot: (B, k) slots by their number in the last round -> (B, g, k) int64."""
    places, k = slots, slots.size(1)
    for rounds, order in enumerate(reversed(orders), start=1):
        places = torch.cat([places, (k << rounds) - 1 - places], dim=1)
        places = places if order is None else order.gather(1, places)
    return places.unflatten(1, (1 << len(orders), k))


def play(scores: Tensor, filled: Tensor | None, base: float | None) -> tuple[Tensor, Tensor]:
    """What comes of a bracket. Differentiable in the scores.

    Args:
        scores: (B, g, k) finite, of the candidates in a bracket.
        filled: (B, g, k) bool, False on empty places, which nothing goes to; None where there are none.
        base: of the peaked softmax, or None.

    Returns:
        (B, k) scores of the slots; (B, g, k) the weight of each place in its slot.
    """
    weights = []
    while scores.size(1) > 1:
        half = scores.size(1) // 2
        (left, right), (strong, weak) = (x.unflatten(1, (2, half)).unbind(1) for x in (scores, strength(scores, base)))
        weight = torch.sigmoid(strong - weak)  # == softmax over the pair, first weight
        if filled is not None:  # a node is empty where its winner's place is
            weight = weight.masked_fill(~filled[:, half : 2 * half], 1)
        scores = torch.lerp(right, left, weight)
        weights.append(weight)
    shares = weights.pop()
    shares = torch.cat([shares, 1 - shares], dim=1)
    for weight in reversed(weights):
        of_left = shares * weight
        shares = torch.cat([of_left, shares - of_left], dim=1)
    return scores.squeeze(1), shares


def strength(scores: Tensor, base: float | None) -> Tensor:
    """What the softmax over a pair is taken of: base**score, or the scores themselves (Eq. 6) where base is None."""
    if base is None:
        return scores
    return (scores.clamp(max=highest_score(base, scores.dtype)) * math.log(base)).exp()


def highest_score(base: float, dtype: torch.dtype) -> float:
    """Scores are meant to lie in [0, 1]; far above, from here on, base**score would overflow and inf - inf be NaN."""
    return math.log(torch.finfo(dtype).max) / math.log(base) - 1


def _slot_order(
    orders: list[Tensor | None], numbers: Tensor, keys: Tensor, padding: bool, preserve_order: bool
) -> Tensor:
    """(B, k) slots by their number in the last round, in the order in which they are returned; empty ones last.

    Documents with at most k tokens lost nothing and keep their own order, whatever is asked.
    """
    if not padding and not preserve_order:  # more than k tokens, so that no slot is empty
        return numbers
    positions = winners(orders, numbers)
    if not padding:
        return positions.argsort(dim=1)
    positions = positions.masked_fill(keys.gather(1, positions).isneginf(), keys.size(1))
    if not preserve_order:
        tokens = keys.size(1) - keys.isneginf().sum(dim=1, keepdim=True)
        positions = torch.where(tokens <= numbers.size(1), positions, numbers)
    return positions.argsort(dim=1, stable=True)
