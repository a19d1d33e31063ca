"""The tournament of successive halving, on scores alone: the draw, which has no gradient, and the play, which has.

A bracket is (B, g, k): each of the k slots has g places. In the first round, place j of the first half meets place j
of the second half, and what comes of it, the left one's successor, takes place j; so on with the halves of the first
half. A round of the play is then one operation on two halves, without an index.
"""

from __future__ import annotations

import math
import re

import numpy as np
import torch
from torch import Tensor

#: One for each copy of this file, as in ``partition``.
_NAMESPACE = re.sub(r"\W", "_", __name__)


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
            order = rank(scores, nearly_sorted=bool(orders))
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
    # Scores are meant to lie in [0, 1]; far above, base**score would overflow and inf - inf be NaN.
    highest = math.log(torch.finfo(scores.dtype).max) / math.log(base) - 1
    return (scores.clamp(max=highest) * math.log(base)).exp()


def rank(scores: Tensor, nearly_sorted: bool = False) -> Tensor:
    """(B, m) -> the int64 indices that sort scores in descending order; of equals, the earlier first.

    ``nearly_sorted`` says that the order is there but for a few, as after a round; it changes the time alone.
    """
    if scores.device.type == "cpu" and scores.dtype == torch.float32:
        return _rank_on_cpu(scores, nearly_sorted)
    return scores.sort(dim=1, descending=True, stable=True).indices


@torch.library.custom_op(
    f"{_NAMESPACE}::rank_on_cpu", mutates_args=(), schema="(Tensor scores, bool nearly_sorted) -> Tensor"
)
def _rank_on_cpu(scores, nearly_sorted):
    """Scores and indices are sorted as one whole number each. No two are equal, so that NumPy's vectorised sort will
    do, which is not stable: less than half the time of torch's. Its timsort takes a thirtieth of that where the order
    is there already, which the winners of a sorted round mostly are in: the better the left one of a pair, the worse
    the right one, and the nearer to the left one what comes of them."""
    bits = (scores + 0.0).numpy().view(np.int32)  # + 0.0: no negative zero
    keys = (~(bits ^ ((bits >> 31) & 0x7FFFFFFF))).astype(np.int64)  # in the opposite order of the scores
    keys <<= 32
    keys |= np.arange(scores.size(1))
    keys.sort(axis=1, kind="stable" if nearly_sorted else None)
    keys &= 0xFFFFFFFF
    return torch.from_numpy(keys)


@_rank_on_cpu.register_fake
def _(scores, nearly_sorted):
    return scores.new_empty(scores.shape, dtype=torch.int64)
