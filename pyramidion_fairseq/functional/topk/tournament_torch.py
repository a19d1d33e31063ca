"""The tournament of successive halving in torch operations: the reference for compiled code and Triton kernels.

It has two parts. ``pairing_orders`` determines, without a gradient, which candidates are paired in each round.
``merge_bracket`` computes, with a gradient, the scores of the slots and the weight of each token.

Brackets are stored as one (B, g, k) tensor. Column j holds the g candidates that end in slot j. Rows are arranged so
that each round merges row i of the first half with row i of the second half: one operation on two halves, without
indexing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class TournamentResult(NamedTuple):
    """Result of a tournament of (B, n) scores for k slots."""

    slot_scores: Tensor
    """(B, k) scores of the slots."""
    slots: Tensor
    """(B, n) int64, the slot of each token; 0 for padding."""
    weights: Tensor
    """(B, n) weight of each token in its slot; 0 for padding."""
    members: Tensor
    """(B, k, g) int64, the tokens of each slot, its winner first."""
    filled: Tensor | None
    """(B, k, g) bool, False where ``members`` is a placeholder; None if there are no placeholders."""


def tournament_torch(
    scores: Tensor,
    padding_mask: Tensor | None,
    padded_length: int,
    k: int,
    base: float | None,
    sort: bool,
    preserve_order: bool,
) -> TournamentResult:
    """Run the tournament of :func:`~.tournament.tournament` in torch operations, with the same arguments.

    Args:
        padded_length: k * 2^rounds, at least n. Positions from n on are byes.
    """
    length = scores.size(1)
    keys = scores.detach()
    may_be_empty = padding_mask is not None or padded_length != length
    if padding_mask is not None:
        scores = scores.masked_fill(padding_mask, 0)
        keys = keys.masked_fill(padding_mask, -math.inf)
    if padded_length != length:
        scores = F.pad(scores, (0, padded_length - length))
        keys = F.pad(keys, (0, padded_length - length), value=-math.inf)
    # Pairing: the order of the candidates in each round, and the resulting brackets, (B, g, k).
    orders = pairing_orders(keys, k, base, sort, may_be_empty)
    numbers = torch.arange(k, device=keys.device).expand(len(keys), k)
    members = bracket_members(orders, _slot_order(orders, numbers, keys, padding_mask is not None, preserve_order))
    # Merging: (B, k) scores of the slots, (B, g, k) weights of the candidates.
    flat = members.flatten(1)
    filled = ~keys.gather(1, flat).view_as(members).isneginf() if may_be_empty else None
    slot_scores, shares = merge_bracket(scores.gather(1, flat).view_as(members), filled, base)
    # From brackets to tokens: (B, n) slots and weights.
    slots = numbers.unsqueeze(1).expand_as(members).flatten(1)
    slots = torch.empty_like(flat).scatter(1, flat, slots)[:, :length]
    weights = torch.empty_like(scores).scatter(1, flat, shares.flatten(1))[:, :length]
    if padding_mask is not None:
        slots = slots.masked_fill(padding_mask, 0)
        weights = weights.masked_fill(padding_mask, 0)
    members = members.transpose(1, 2)  # (B, k, g)
    if filled is not None:
        # Placeholders (byes, padding) get the index of their slot's winner, or of the first slot's winner in an empty
        # slot. Their weight is 0. They point at a token so that padding, which may be NaN, is never read.
        filled = filled.transpose(1, 2)
        stand_ins = torch.where(filled[:, :, :1], members[:, :, :1], members[:, :1, :1])
        members = torch.where(filled, members, stand_ins).clamp(max=length - 1)
    return TournamentResult(slot_scores, slots, weights, members, filled)


@torch.no_grad()
def pairing_orders(scores: Tensor, k: int, base: float | None, sort: bool, may_be_empty: bool) -> list[Tensor | None]:
    """Return the order of the candidates in each round, in which candidate i of m is paired with candidate m + 1 - i.

    Args:
        scores: (B, m), m = k * 2^rounds; -inf for empty candidates.
        k: number of slots.
        base: base of the peaked softmax, or None.
        sort: whether to sort by score. False keeps the order of the candidates, except that empty ones are last.
        may_be_empty: whether candidates may be empty: byes or padding.

    Returns:
        For each round the (B, m) int64 order of its candidates, with m halved after each round; None if they keep the
        order of the previous round.
    """
    orders: list[Tensor | None] = []
    size = scores.size(1)
    while size > k:
        half = size // 2
        order = None
        if sort:
            order = scores.sort(dim=1, descending=True, stable=True).indices
        elif may_be_empty and not orders:  # only in the first round, as empty candidates then stay last
            order = scores.isneginf().long().sort(dim=1, stable=True).indices
        orders.append(order)
        if half > k:  # no round follows the last one
            scores = scores if order is None else scores.gather(1, order)
            left, right = _first_and_last(scores, half)
            strength_left, strength_right = _first_and_last(strength(scores, base), half)
            scores = torch.lerp(right, left, torch.sigmoid(strength_left - strength_right))
            if may_be_empty:
                scores = torch.where(right.isneginf(), left, scores)
        size = half
    return orders


def winners(orders: list[Tensor | None], last_candidates: Tensor) -> Tensor:
    """Return the first-round candidates that won: (B, k) candidates of the last round -> (B, k) of the first round."""
    candidates = last_candidates
    for order in reversed(orders):
        candidates = candidates if order is None else order.gather(1, candidates)
    return candidates


def bracket_members(orders: list[Tensor | None], last_candidates: Tensor) -> Tensor:
    """Return the brackets of last-round candidates: (B, k) -> (B, g, k) int64, candidates of the first round."""
    members = last_candidates
    k = last_candidates.size(1)
    for rounds, order in enumerate(reversed(orders), start=1):
        members = torch.cat([members, (k << rounds) - 1 - members], dim=1)
        members = members if order is None else order.gather(1, members)
    return members.unflatten(1, (1 << len(orders), k))


def merge_bracket(scores: Tensor, filled: Tensor | None, base: float | None) -> tuple[Tensor, Tensor]:
    """Merge the scores of each bracket into the score of its slot, and return the weights in the slot.

    Differentiable with respect to the scores.

    Args:
        scores: (B, g, k) finite scores of the candidates of each bracket.
        filled: (B, g, k) bool, False for empty candidates, which get no weight; None if there are none.
        base: base of the peaked softmax, or None.

    Returns:
        (B, k) scores of the slots; (B, g, k) weight of each candidate in its slot.
    """
    weights = []
    while scores.size(1) > 1:
        half = scores.size(1) // 2
        left, right = scores.split(half, dim=1)
        strength_left, strength_right = strength(scores, base).split(half, dim=1)
        weight = torch.sigmoid(strength_left - strength_right)  # weight of the left candidate, a softmax over the pair
        if filled is not None:  # the right candidate is empty if its winner is
            weight = weight.masked_fill(~filled[:, half : 2 * half], 1)
        scores = torch.lerp(right, left, weight)
        weights.append(weight)
    shares = weights.pop()
    shares = torch.cat([shares, 1 - shares], dim=1)
    for weight in reversed(weights):
        of_left = shares * weight
        shares = torch.cat([of_left, shares - of_left], dim=1)
    return scores.squeeze(1), shares


def _first_and_last(x: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Split m columns into pairs of first and last, second and second to last, ...: (B, m) -> (B, m / 2) twice."""
    return x[:, :half], x[:, half:].flip(1)


def strength(scores: Tensor, base: float | None) -> Tensor:
    """Return the logits of the softmax over a pair: base**score, or the scores (Eq. 6) if base is None."""
    if base is None:
        return scores
    return (scores.clamp(max=highest_score(base, scores.dtype)) * math.log(base)).exp()


def highest_score(base: float, dtype: torch.dtype) -> float:
    """Return the score above which base**score would overflow, so that a difference of two would be NaN."""
    return math.log(torch.finfo(dtype).max) / math.log(base) - 1


def _slot_order(
    orders: list[Tensor | None], numbers: Tensor, keys: Tensor, padding: bool, preserve_order: bool
) -> Tensor:
    """Return the last-round candidates in the order of their slots, empty ones last: (B, k).

    Documents with at most k tokens keep their own order, whatever ``preserve_order`` says.
    """
    if not padding and not preserve_order:  # without padding there are more than k tokens, so no slot is empty
        return numbers
    positions = winners(orders, numbers)
    if not padding:
        return positions.argsort(dim=1)
    positions = positions.masked_fill(keys.gather(1, positions).isneginf(), keys.size(1))
    if not preserve_order:
        tokens = keys.size(1) - keys.isneginf().sum(dim=1, keepdim=True)
        positions = torch.where(tokens <= numbers.size(1), positions, numbers)
    return positions.argsort(dim=1, stable=True)
