"""The Successive Halving Top-k operator (paper, section 4 and Algorithm 1 in Appendix B.1)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .partition import partition_sum
from .tournament import bracket, draw, play, winners


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

    places = k << ((length - 1) // k).bit_length()  # k * 2^ceil(log2(n / k)), in whole numbers
    limit = torch.finfo(scores.dtype).max / 4  # the difference of two infinite scores would be NaN
    scores = scores.clamp(-limit, limit)
    keys, may_be_empty = scores.detach(), padding_mask is not None or places != length
    if padding_mask is not None:
        scores, keys = scores.masked_fill(padding_mask, 0), keys.masked_fill(padding_mask, -math.inf)
    if places != length:
        scores, keys = F.pad(scores, (0, places - length)), F.pad(keys, (0, places - length), value=-math.inf)
    orders = draw(keys, k, base, sort, may_be_empty)
    numbers = torch.arange(k, device=keys.device).expand(len(keys), k)
    members = bracket(orders, _slot_order(orders, numbers, keys, padding_mask is not None, preserve_order))
    flat = members.flatten(1)
    filled = keys.gather(1, flat).view_as(members) > -math.inf if may_be_empty else None
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
    return Pooled(
        partition_sum(embeddings, weights, slots, members, filled),
        slot_scores,
        None if padding_mask is None else ~filled[:, :, 0],
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
