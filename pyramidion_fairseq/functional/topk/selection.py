"""Hard top-k, and helpers shared by the selections without a tournament."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .partition import partition_sum
from .successive_halving import Pooled, at_least_float32, check_arguments, keep_all


def order_by_score(scores: Tensor, valid: Tensor) -> Tensor:
    """Sort tokens by descending score, stably, invalid ones last: (B, n), (B, n) bool -> (B, n) int64."""
    keys = scores.detach().clamp(min=torch.finfo(scores.dtype).min).masked_fill(~valid, -math.inf)
    return keys.sort(dim=1, descending=True, stable=True).indices


def hard_topk(embeddings: Tensor, scores: Tensor, k: int, *, padding_mask: Tensor | None = None) -> Pooled:
    """Keep the k representations with the highest scores, in the order of the document (paper, Eq. 2).

    The representations do not depend on the scores (Eq. 4), so a scorer receives no gradient through them.

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), any floating dtype; ties go to the earlier token.
        k: number of representations to keep, at least 1.
        padding_mask: (B, n) bool, True on padding, at any position; None if there is no padding.

    Returns:
        :class:`Pooled` with min(n, k) slots; weights are 1 for the tokens kept, and 0 for the others, whose slot is 0.
        Differentiable with respect to ``embeddings``.

    Raises:
        ValueError: shapes do not match, or k < 1.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    batch, length = scores.shape
    if length <= k:
        return keep_all(embeddings, scores, padding_mask)
    scores = at_least_float32(scores)
    valid = torch.ones_like(scores, dtype=torch.bool) if padding_mask is None else ~padding_mask
    chosen = order_by_score(scores, valid)[:, :k]
    chosen = chosen.masked_fill(~valid.gather(1, chosen), length).sort(dim=1).values  # empty slots last
    filled = chosen < length
    # The empty slots write to column `length`, which is dropped.
    numbers = torch.arange(k, device=chosen.device).expand_as(chosen)
    slots = chosen.new_zeros(batch, length + 1).scatter(1, chosen, numbers)[:, :length]
    weights = scores.new_zeros(batch, length + 1).scatter(1, chosen, 1.0)[:, :length]
    members = chosen.clamp(max=length - 1)
    return Pooled(
        partition_sum(embeddings, weights, slots, members.unsqueeze(2), filled.unsqueeze(2)),
        scores.gather(1, members).masked_fill(~filled, 0),
        None if padding_mask is None else ~filled,
        slots,
        weights,
    )


def candidate_mask(scores: Tensor, k: int, padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return a mask of the tokens that are candidates of a relaxed selection.

    Each document has more than k candidates, so that no softmax is over an empty set. All positions of a document with
    at most k tokens are candidates; :func:`combine` later passes it unchanged.

    Returns:
        (B, n) bool, more than k of each row True, for n > k; (B, 1) bool, True for documents with at most k tokens.
    """
    valid = torch.ones_like(scores, dtype=torch.bool) if padding_mask is None else ~padding_mask
    short = valid.sum(dim=1, keepdim=True) <= k
    return valid | short, short


def zero_padding(x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Set padding to zero in (B, n) or (B, n, d). It may hold NaN, and 0 * NaN is NaN."""
    if padding_mask is None:
        return x
    return x.masked_fill(padding_mask.unsqueeze(2) if x.dim() == 3 else padding_mask, 0)


def clamp_huge(scores: Tensor, valid: Tensor, margin: float) -> Tensor:
    """Move infinite and huge scores close to the others, whose differences would otherwise be lost to rounding.

    Args:
        scores: (B, n) float32 or float64.
        valid: (B, n) bool, True on tokens that take part.
        margin: distance above the highest, or below the lowest, of the document's other scores.

    Returns:
        (B, n); NaN stays NaN.
    """
    with torch.no_grad():
        limit = torch.finfo(scores.dtype).max ** 0.5
        far = ~(scores.abs() <= limit)
        unseen = far | ~valid
        highest = scores.masked_fill(unseen, -limit).amax(dim=1, keepdim=True)
        lowest = scores.masked_fill(unseen, limit).amin(dim=1, keepdim=True)
        none = unseen.all(dim=1, keepdim=True)
        above = highest.masked_fill(none, 0) + margin
        below = lowest.masked_fill(none, 0) - margin
    scores = torch.where(scores > limit, above, scores)
    return torch.where(scores < -limit, below, scores)


def combine(
    embeddings: Tensor, scores: Tensor, rows: Tensor, leaders: Tensor, short: Tensor, padding_mask: Tensor | None
) -> Pooled:
    """Compute the k convex combinations of a relaxed selection, in the order of the document.

    Row r of ``rows`` relaxes the one-hot vector of its leader, the token with the r-th highest score. The combinations
    are sorted by the positions of their leaders. The record of a relaxation is approximate, because every token has a
    share in every slot. It holds, for each token, the slot with the largest share as slot, and this share as weight.

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n) float32 or float64.
        rows: (B, k, n) shares, k < n, each row summing to one and zero on padding.
        leaders: (B, k) int64, the leader of each row, distinct within a document.
        short: (B, 1) bool, True for documents with at most k tokens, which pass unchanged.
        padding_mask: (B, n) bool or None.

    Returns:
        :class:`Pooled` with k slots.
    """
    batch, k, length = rows.shape

    # 1. Sort the rows in the order of the document: (B, k) `order`. Rows of a short document become one-hot vectors of
    # its tokens. `filled`, (B, k), is False for rows whose leader is padding; they are last.
    filled: Tensor | None = None
    if padding_mask is None:
        order = leaders.argsort(dim=1)
    else:
        first_tokens = padding_mask.long().sort(dim=1, stable=True).indices[:, :k]  # padding after all tokens
        one_hot = torch.zeros_like(rows).scatter(2, first_tokens.unsqueeze(2), 1.0)
        one_hot = one_hot.masked_fill(padding_mask.unsqueeze(1), 0)
        rows = torch.where(short.unsqueeze(2), one_hot, rows)
        leaders = torch.where(short, first_tokens, leaders)
        filled = ~padding_mask.gather(1, leaders)
        order = leaders.masked_fill(~filled, length).argsort(dim=1, stable=True)
        filled = filled.gather(1, order)

    # 2. The record: (B, n) largest share of each token, and the slot of the row with this share.
    weights, largest_row = rows.max(dim=1)
    slot_of_row = order.argsort(dim=1)
    slots = slot_of_row.gather(1, largest_row)
    if padding_mask is not None:
        slots = slots.masked_fill(padding_mask, 0)
        weights = weights.masked_fill(padding_mask, 0)

    # 3. The combinations, (B, k, d), and their scores, (B, k), in the order of the document.
    with torch.autocast(embeddings.device.type, enabled=False):
        combined = torch.bmm(rows.to(embeddings.dtype), zero_padding(embeddings, padding_mask))
        combined_scores = torch.bmm(rows, scores.unsqueeze(2)).squeeze(2)
    combined = combined.gather(1, order.unsqueeze(2).expand(batch, k, embeddings.size(2)))
    combined_scores = combined_scores.gather(1, order)
    if filled is not None:  # no gradient flows from an empty slot to the tokens, not even 0 * NaN
        combined = combined.masked_fill(~filled.unsqueeze(2), 0)
        combined_scores = combined_scores.masked_fill(~filled, 0)
    return Pooled(combined, combined_scores, None if filled is None else ~filled, slots, weights)
