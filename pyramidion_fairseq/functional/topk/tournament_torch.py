"""The tournament of successive halving in operations of torch: the reference of the compiled code and the kernels.

It has two parts. ``pairing_orders`` decides, without a gradient, which candidates are paired in each round.
``merge_bracket`` computes, with a gradient, the scores of the slots and the weight of each token.

Brackets are one (B, g, k) tensor: column j holds the g candidates that end in slot j. They are arranged so that each
round merges row i of the first half with row i of the second half: one operation on two halves, without indexing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class TournamentResult(NamedTuple):
    """The result of a tournament of (B, n) scores for k slots."""

    slot_scores: Tensor
    """(B, k) the scores of the slots."""
    slots: Tensor
    """(B, n) int64, the slot that every token went to; 0 for padding."""
    weights: Tensor
    """(B, n) the weight of every token in its slot; 0 for padding."""
    members: Tensor
    """(B, k, g) int64, the tokens of every slot, its winner first."""
    filled: Tensor | None
    """(B, k, g) bool, False where ``members`` is only a placeholder; None where it nowhere is."""


def tournament_torch(
    scores: Tensor,
    padding_mask: Tensor | None,
    padded_length: int,
    k: int,
    base: float | None,
    sort: bool,
    preserve_order: bool,
) -> TournamentResult:
    """Hold the tournament of :func:`~.tournament.tournament`, whose arguments these are, in operations of torch.

    Args:
        padded_length: k * 2^rounds, at least n; positions from n on are byes.
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
    # Pairing: the candidates' order in each round, and the brackets that it leads to, (B, g, k).
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
        # Placeholders (byes, padding) get the index of their slot's winner; in an empty slot, of the first slot's.
        # Their weight is 0. They point at a token so that padding, which may be NaN, is never read.
        filled = filled.transpose(1, 2)
        stand_ins = torch.where(filled[:, :, :1], members[:, :, :1], members[:, :1, :1])
        members = torch.where(filled, members, stand_ins).clamp(max=length - 1)
    return TournamentResult(slot_scores, slots, weights, members, filled)


@torch.no_grad()
def pairing_orders(scores: Tensor, k: int, base: float | None, sort: bool, may_be_empty: bool) -> list[Tensor | None]:
    """Return the order of the candidates in each round, in which number i of m meets number m + 1 - i.

    Args:
        scores: (B, m), m = k * 2^rounds; -inf where there is no token.
        k: number of slots.
        base: of the peaked softmax, or None.
        sort: False keeps the candidates in their order, but for empty ones, which are last.
        may_be_empty: whether a candidate may be no token.

    Returns:
        For each round (B, m) int64, the candidates in order, half as many as in the round before; None where they keep
        the order of the round before.
    """
    orders: list[Tensor | None] = []
    size = scores.size(1)
    while size > k:
        half = size // 2
        order = None
        if sort:
            order = scores.sort(dim=1, descending=True, stable=True).indices
        elif may_be_empty and not orders:  # in the first round only: empty ones stay last
            order = scores.isneginf().long().sort(dim=1, stable=True).indices
        orders.append(order)
        if half > k:  # there is no round after the last one
            scores = scores if order is None else scores.gather(1, order)
            left, right = _first_and_last(scores, half)
            strength_left, strength_right = _first_and_last(strength(scores, base), half)
            scores = torch.lerp(right, left, torch.sigmoid(strength_left - strength_right))
            if may_be_empty:
                scores = torch.where(right.isneginf(), left, scores)
        size = half
    return orders


def winners(orders: list[Tensor | None], last_candidates: Tensor) -> Tensor:
    """Return the winners of candidates of the last round: (B, k) their numbers -> (B, k) of the first round."""
    candidates = last_candidates
    for order in reversed(orders):
        candidates = candidates if order is None else order.gather(1, candidates)
    return candidates


def bracket_members(orders: list[Tensor | None], last_candidates: Tensor) -> Tensor:
    """Return the brackets of candidates of the last round: (B, k) their numbers -> (B, g, k) int64."""
    members = last_candidates
    k = last_candidates.size(1)
    for rounds, order in enumerate(reversed(orders), start=1):
        members = torch.cat([members, (k << rounds) - 1 - members], dim=1)
        members = members if order is None else order.gather(1, members)
    return members.unflatten(1, (1 << len(orders), k))


def merge_bracket(scores: Tensor, filled: Tensor | None, base: float | None) -> tuple[Tensor, Tensor]:
    """Merge each bracket's scores from its candidates to its slot, and return their weights in it.

    Differentiable in the scores.

    Args:
        scores: (B, g, k) finite, of the candidates in a bracket.
        filled: (B, g, k) bool, False where there is no token, which gets no weight; None where all are.
        base: of the peaked softmax, or None.

    Returns:
        (B, k) scores of the slots; (B, g, k) the weight of each candidate in its slot.
    """
    weights = []
    while scores.size(1) > 1:
        half = scores.size(1) // 2
        left, right = scores.split(half, dim=1)
        strength_left, strength_right = strength(scores, base).split(half, dim=1)
        weight = torch.sigmoid(strength_left - strength_right)  # of the left one: a softmax over the pair
        if filled is not None:  # a pair is empty where its winner is
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
    """Pair the first of m columns with the last, and so on: (B, m) -> (B, m / 2) twice."""
    return x[:, :half], x[:, half:].flip(1)


def strength(scores: Tensor, base: float | None) -> Tensor:
    """Return what the softmax over a pair is taken of: base**score, or the scores (Eq. 6) where base is None."""
    if base is None:
        return scores
    return (scores.clamp(max=highest_score(base, scores.dtype)) * math.log(base)).exp()


def highest_score(base: float, dtype: torch.dtype) -> float:
    """Return the score above which base**score would overflow, so that a difference were NaN."""
    return math.log(torch.finfo(dtype).max) / math.log(base) - 1


def _slot_order(
    orders: list[Tensor | None], numbers: Tensor, keys: Tensor, padding: bool, preserve_order: bool
) -> Tensor:
    """Return the candidates of the last round in the order of their slots, empty ones last: (B, k) numbers.

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
