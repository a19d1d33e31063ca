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
    has_padding = padding_mask is not None
    may_be_empty = has_padding or padded_length != length
    # (B, padded_length) twice: -inf sorts byes and padding last, 0 keeps their gradient finite.
    sort_keys = _fill_empty(scores.detach(), padding_mask, padded_length, -math.inf)
    scores = _fill_empty(scores, padding_mask, padded_length, 0)
    # Pairing: the order of the candidates in each round, and the resulting brackets, (B, g, k).
    orders = pairing_orders(sort_keys, k, base, sort, may_be_empty)
    slot_numbers = torch.arange(k, device=scores.device).expand(len(scores), k)
    brackets = bracket_members(orders, _slot_order(orders, slot_numbers, sort_keys, has_padding, preserve_order))
    # Merging: (B, k) scores of the slots, (B, g, k) weights of the candidates.
    is_token = ~_gather(sort_keys, brackets).isneginf() if may_be_empty else None
    slot_scores, shares = merge_bracket(_gather(scores, brackets), is_token, base)
    # From brackets to tokens: (B, n) slots and weights.
    slots = _to_tokens(slot_numbers.unsqueeze(1).expand_as(brackets), brackets, padding_mask, length)
    weights = _to_tokens(shares, brackets, padding_mask, length)
    members = brackets.transpose(1, 2)  # (B, k, g)
    filled = None
    if is_token is not None:
        filled = is_token.transpose(1, 2)
        members = _without_placeholders(members, filled, length)
    return TournamentResult(slot_scores, slots, weights, members, filled)


def _fill_empty(scores: Tensor, padding_mask: Tensor | None, padded_length: int, value: float) -> Tensor:
    """Set padding to ``value``, and append byes with this value: (B, n) -> (B, padded_length)."""
    if padding_mask is not None:
        scores = scores.masked_fill(padding_mask, value)
    byes = padded_length - scores.size(1)
    return F.pad(scores, (0, byes), value=value) if byes else scores  # F.pad would copy


def _gather(values: Tensor, brackets: Tensor) -> Tensor:
    """Return the value of each candidate of the brackets: (B, m), (B, g, k) int64 with g * k = m -> (B, g, k)."""
    return values.gather(1, brackets.flatten(1)).view_as(brackets)


def _to_tokens(values: Tensor, brackets: Tensor, padding_mask: Tensor | None, length: int) -> Tensor:
    """Undo :func:`_gather`: (B, g, k) -> (B, n), without the byes, 0 on padding."""
    flat_brackets = brackets.flatten(1)  # (B, padded_length), each candidate once
    by_candidate = torch.empty_like(flat_brackets, dtype=values.dtype).scatter(1, flat_brackets, values.flatten(1))
    by_token = by_candidate[:, :length]
    return by_token if padding_mask is None else by_token.masked_fill(padding_mask, 0)


def _without_placeholders(members: Tensor, filled: Tensor, length: int) -> Tensor:
    """Replace placeholders (byes, padding) by tokens, so that padding, which may be NaN, is never read.

    They become their slot's winner, or the first slot's winner in an empty slot. Their weight is 0.

    Args:
        members: (B, k, g) int64 in [0, padded_length).
        filled: (B, k, g) bool, False on placeholders.
        length: n.

    Returns:
        (B, k, g) int64 in [0, n).
    """
    winner = members[:, :, :1]
    stand_ins = torch.where(filled[:, :, :1], winner, members[:, :1, :1])
    return torch.where(filled, members, stand_ins).clamp(max=length - 1)


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
            left_logit, right_logit = _first_and_last(pair_logits(scores, base), half)
            scores = torch.lerp(right, left, torch.sigmoid(left_logit - right_logit))
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
    width = last_candidates.size(1)  # number of candidates of the round
    for order in reversed(orders):
        width *= 2
        # Candidate i of the next round is the pair (i, width - 1 - i) of this round. With width 8: 0 is (0, 7), 1 is
        # (1, 6), ...
        members = torch.cat([members, width - 1 - members], dim=1)
        if order is not None:  # from sorted positions to candidates
            members = order.gather(1, members)
    return members.unflatten(1, (-1, last_candidates.size(1)))


def merge_bracket(scores: Tensor, is_token: Tensor | None, base: float | None) -> tuple[Tensor, Tensor]:
    """Merge the scores of each bracket into the score of its slot, and return the weights in the slot.

    Differentiable with respect to the scores.

    Args:
        scores: (B, g, k) finite scores of the candidates of each bracket.
        is_token: (B, g, k) bool, False for empty candidates, which get no weight; None if there are none.
        base: base of the peaked softmax, or None.

    Returns:
        (B, k) scores of the slots; (B, g, k) weight of each candidate in its slot.
    """
    left_weights = []  # one tensor per round, each with half as many rows as the one before
    while scores.size(1) > 1:
        half = scores.size(1) // 2
        left, right = scores.split(half, dim=1)
        left_logit, right_logit = pair_logits(scores, base).split(half, dim=1)
        left_weight = torch.sigmoid(left_logit - right_logit)  # a softmax over the pair
        if is_token is not None:
            left_weight = left_weight.masked_fill(~is_token[:, half:], 1)
            is_token = is_token[:, :half]  # row i now stands for a pair, which is empty if its left candidate is
        scores = torch.lerp(right, left, left_weight)
        left_weights.append(left_weight)
    # Split the weight of each slot, which is 1, among its candidates: from the last round back to the first.
    last_weight = left_weights.pop()
    shares = torch.cat([last_weight, 1 - last_weight], dim=1)
    for left_weight in reversed(left_weights):
        left_share = shares * left_weight
        shares = torch.cat([left_share, shares - left_share], dim=1)
    return scores.squeeze(1), shares


def _first_and_last(x: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Split m columns into pairs of first and last, second and second to last, ...: (B, m) -> (B, m / 2) twice."""
    return x[:, :half], x[:, half:].flip(1)


def pair_logits(scores: Tensor, base: float | None) -> Tensor:
    """Return the logits of the softmax over a pair: base**score, or the scores (Eq. 6) if base is None."""
    if base is None:
        return scores
    return (scores.clamp(max=highest_score(base, scores.dtype)) * math.log(base)).exp()


def highest_score(base: float, dtype: torch.dtype) -> float:
    """Return the score above which base**score would overflow, so that a difference of two would be NaN."""
    return math.log(torch.finfo(dtype).max) / math.log(base) - 1


def _slot_order(
    orders: list[Tensor | None], slot_numbers: Tensor, sort_keys: Tensor, has_padding: bool, preserve_order: bool
) -> Tensor:
    """Return the last-round candidates in the order of their slots, empty ones last: (B, k).

    Documents with at most k tokens keep their own order, whatever ``preserve_order`` says.

    Args:
        orders: see :func:`pairing_orders`.
        slot_numbers: (B, k) int64, 0 to k - 1 in each row: also the candidates of the last round, in their order.
        sort_keys: (B, m) scores of the candidates of the first round; -inf for empty ones.
        has_padding: whether there is padding. Without it there are more than k tokens, so no slot is empty.
        preserve_order: whether to order the slots by the positions of their winners.
    """
    if not has_padding and not preserve_order:
        return slot_numbers
    positions = winners(orders, slot_numbers)  # (B, k), of the winner of each slot
    if has_padding:
        after_all = sort_keys.size(1)  # sorts after every position
        positions = positions.masked_fill(sort_keys.gather(1, positions).isneginf(), after_all)
        if not preserve_order:
            is_short = (~sort_keys.isneginf()).sum(dim=1, keepdim=True) <= slot_numbers.size(1)
            positions = torch.where(is_short, positions, slot_numbers)
    return positions.argsort(dim=1, stable=True)
