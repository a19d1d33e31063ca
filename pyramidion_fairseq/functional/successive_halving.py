"""The Successive Halving Top-k operator (paper, section 4 and Algorithm 1 in Appendix B.1)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .partition import partition_sum


class Pooled(NamedTuple):
    """What a pooler returns for a batch of documents with n tokens each."""

    embeddings: Tensor
    """(B, k, d) the pooled representations."""
    scores: Tensor
    """(B, k) their scores, float32 at least."""
    padding_mask: Tensor | None
    """(B, k) bool, True on slots that hold nothing; None where every slot of every document is taken."""
    slots: Tensor
    """(B, n) int64, the slot that every input token went to (0 for padding, with weight 0)."""
    weights: Tensor
    """(B, n) the weight of every input token in its slot, float32 at least; those of a slot sum to one.

    Poolers without an exact record (``Pooler.exact_record``) give each token's largest share here."""


def successive_halving_topk(
    embeddings: Tensor,
    scores: Tensor,
    k: int,
    *,
    base: float | None = 20.0,
    sort: bool = True,
    preserve_order: bool = True,
    padding_mask: Tensor | None = None,
) -> Pooled:
    """Select k representations of n by a differentiable tournament.

    In each round the m candidates are sorted by score and met in pairs (i, m + 1 - i); a pair becomes its convex
    combination with weights softmax(base**score), as does its score, so that m halves until k are left. The
    tournament runs on scores alone; every input token ends in exactly one slot with one known weight, and each
    representation is read once.

    Where n / k is no power of two, the bracket is filled up with byes, which the highest scores get. A document with
    at most k tokens (padding not counted) passes unchanged. Padding never contributes and never changes a result.

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), meant to lie in [0, 1]; float16 and bfloat16 are computed in float32.
        k: number of representations to keep, at least 1. With n <= k everything is kept.
        base: the peaked softmax is softmax(base**score); None is the plain softmax(score) of Eq. 6.
        sort: sort before every round; False pairs by position (the ablation of Appendix B.5).
        preserve_order: order the slots by the position of the token that won each (section 3.1); False leaves them
            in the order of their scores, as Algorithm 1 does.
        padding_mask: (B, n) bool, True on padding, which may stand anywhere; None where there is none.

    Returns:
        :class:`Pooled`, with min(n, k) slots. Differentiable once in ``embeddings`` and ``scores``.

    Raises:
        ValueError: shapes do not fit, k is below 1, or base is not above 1.
    """
    check_arguments(embeddings, scores, k, padding_mask)
    if base is not None and base <= 1:  # below 1, low scores would win
        raise ValueError(f"base must be above 1, or None for the plain softmax, got {base}")
    scores = at_least_float32(scores)
    length = scores.size(1)
    if length <= k:
        return keep_all(embeddings, scores, padding_mask)

    valid = torch.ones_like(scores, dtype=torch.bool) if padding_mask is None else ~padding_mask
    bracket = k << ((length - 1) // k).bit_length()  # k * 2^ceil(log2(n / k)), in whole numbers
    limit = torch.finfo(scores.dtype).max / 4  # the difference of two infinite scores would be NaN
    candidates = F.pad(scores.clamp(-limit, limit).masked_fill(~valid, 0), (0, bracket - length))
    alive = F.pad(valid, (0, bracket - length))
    rounds, candidates, alive = _play(candidates, alive, k, base, sort)
    members, shares = _expand(rounds)

    order = _slot_order(members[:, :, 0], alive, valid.sum(dim=1, keepdim=True), bracket, preserve_order)
    members = members.gather(1, order.unsqueeze(2).expand_as(members))
    shares = shares.gather(1, order.unsqueeze(2).expand_as(shares))

    flat = members.flatten(1)
    slot_of_member = torch.arange(k, device=flat.device).repeat_interleave(members.size(2)).expand_as(flat)
    slots = torch.zeros_like(flat).scatter(1, flat, slot_of_member)[:, :length].masked_fill(~valid, 0)
    weights = torch.zeros_like(shares).flatten(1).scatter(1, flat, shares.flatten(1))[:, :length]
    weights = weights.masked_fill(~valid, 0)

    # A bye or a padded member points to its slot's winner, with weight 0, and those of an empty slot to the first
    # slot's: padding is not even read.
    filled = F.pad(valid, (0, bracket - length)).gather(1, flat).view_as(members)
    alive = alive.gather(1, order)
    winners = torch.where(alive.unsqueeze(2), members[:, :, :1], members[:, :1, :1])
    members = torch.where(filled, members, winners).clamp(max=length - 1)
    return Pooled(
        partition_sum(embeddings, weights, slots, members, filled),
        candidates.gather(1, order),
        None if padding_mask is None else ~alive,
        slots,
        weights,
    )


def keep_all(embeddings: Tensor, scores: Tensor, padding_mask: Tensor | None) -> Pooled:
    """The pooling that keeps every token: (B, n, d), (B, n), (B, n) or None -> :class:`Pooled` with n slots."""
    batch, length = scores.shape
    slots = torch.arange(length, device=scores.device).expand(batch, length)
    weights = torch.ones_like(scores.detach())
    if padding_mask is not None:
        slots, weights = slots.masked_fill(padding_mask, 0), weights.masked_fill(padding_mask, 0)
    return Pooled(embeddings, scores, padding_mask, slots, weights)


def at_least_float32(scores: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, others as they are."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def check_arguments(embeddings: Tensor, scores: Tensor, k: int, padding_mask: Tensor | None) -> None:
    """Raise ValueError where the arguments that all selections take do not fit together."""
    if embeddings.dim() != 3 or scores.shape != embeddings.shape[:2]:
        raise ValueError(
            f"embeddings must be (B, n, d) and scores (B, n), got {tuple(embeddings.shape)} and {tuple(scores.shape)}"
        )
    if padding_mask is not None and (padding_mask.shape != scores.shape or padding_mask.dtype != torch.bool):
        raise ValueError(
            f"padding_mask must be bool of shape {tuple(scores.shape)}, "
            f"got {padding_mask.dtype} of shape {tuple(padding_mask.shape)}"
        )
    if not scores.is_floating_point():
        raise ValueError(f"scores must be floating point, got {scores.dtype}")
    if k != int(k) or k < 1:
        raise ValueError(f"k must be a whole number, at least 1, got {k}")


def _play(scores: Tensor, alive: Tensor, k: int, base: float | None, sort: bool):
    """Play all rounds: (B, m) scores and bools -> [(left, right, left's weight)], (B, k) scores, (B, k) bools.

    ``left`` and ``right`` are (B, m / 2) indices into the candidates of the round.
    """
    rounds = []
    while scores.size(1) > k:
        half = scores.size(1) // 2
        if sort:  # stable, so that ties fall the same way every time, to the earlier token
            keys = scores.detach().masked_fill(~alive, -math.inf)
            order = keys.sort(dim=1, descending=True, stable=True).indices
        else:  # what holds nothing comes last; after the first round it does so already
            order = (~alive).long().sort(dim=1, stable=True).indices
        left, right = order[:, :half], order[:, half:].flip(1)
        left_scores, right_scores = scores.gather(1, left), scores.gather(1, right)
        contested = alive.gather(1, right)
        weight = _left_weight(left_scores, right_scores, base).masked_fill(~contested, 1)
        scores = torch.lerp(right_scores, left_scores, weight)
        alive = alive.gather(1, left)
        rounds.append((left, right, weight))
    return rounds, scores, alive


def _left_weight(left: Tensor, right: Tensor, base: float | None) -> Tensor:
    """softmax over a pair, first weight: of base**score, or of the scores themselves (Eq. 6) where base is None."""
    if base is None:
        return torch.sigmoid(left - right)
    # Scores are meant to lie in [0, 1]; far above, base**score would overflow and inf - inf be NaN.
    highest = math.log(torch.finfo(left.dtype).max) / math.log(base) - 1
    left, right = left.clamp(max=highest), right.clamp(max=highest)
    return torch.sigmoid(base**left - base**right)


def _expand(rounds) -> tuple[Tensor, Tensor]:
    """Expand the tournament's tree from its k roots to its leaves: (B, k, g) members, winner first, and weights."""
    left, right, weight = rounds[-1]
    members, shares = torch.stack([left, right], 2), torch.stack([weight, 1 - weight], 2)
    for left, right, weight in rounds[-2::-1]:
        flat = members.flatten(1)
        of_left = shares * weight.gather(1, flat).view_as(shares)
        members = torch.cat([left.gather(1, flat).view_as(members), right.gather(1, flat).view_as(members)], 2)
        shares = torch.cat([of_left, shares - of_left], 2)
    return members, shares


def _slot_order(winners: Tensor, alive: Tensor, tokens: Tensor, bracket: int, preserve_order: bool) -> Tensor:
    """(B, k) permutation of the slots; empty ones last, and documents that lost nothing in their own order."""
    keys = winners.masked_fill(~alive, bracket)
    if not preserve_order:
        rank = torch.arange(keys.size(1), device=keys.device).expand_as(keys)
        keys = torch.where(tokens <= keys.size(1), keys, rank)
    return keys.argsort(dim=1, stable=True)
