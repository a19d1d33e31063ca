"""Pooling of windows of consecutive tokens, without scores (paper, Appendix A; Funnel-Transformer)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..padding import token_positions
from .partition import partition_sum
from .successive_halving import Pooled, at_least_float32, check_arguments, check_count, keep_all


def window_size(count: Any, k: int, window: int) -> Any:
    """Return the window size for documents of ``count`` (int or tensor) tokens; see :func:`mean_windows`."""
    needed = -(-count // k)
    if isinstance(count, Tensor):
        return torch.where(count <= k, torch.ones_like(count), needed.clamp(min=window))
    return 1 if count <= k else max(needed, window)


def mean_windows(
    embeddings: Tensor, scores: Tensor, k: int, *, window: int = 1, padding_mask: Tensor | None = None
) -> Pooled:
    """Average windows of consecutive tokens; the stride equals the window.

    The window depends only on the schedule and on the document, never on the batch. A document with more than k tokens
    is cut into windows of ``window`` tokens from its start; the last one may be shorter. If the m tokens do not fit
    into k such windows, windows grow to ceil(m / k). A document with at most k tokens passes unchanged.

    A document shorter than the schedule's full length may therefore be pooled to fewer than k vectors: ceil(m /
    window).

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), averaged like the representations and otherwise unused.
        k: maximum number of windows, at least 1.
        window: number of tokens per window, at least 1.
        padding_mask: (B, n) bool, True on padding, at any position; None if there is no padding.

    Returns:
        :class:`Pooled` with min(n, k) slots, empty ones last. The record is exact. Differentiable with respect to
        ``embeddings``.

    Raises:
        ValueError: shapes do not match, or k or window is below 1.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    window = check_count("window", window)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)
    scores = at_least_float32(scores)
    slots, members, filled = _windows(scores, k, window, padding_mask)
    sizes = filled.sum(dim=2)
    weights = sizes.clamp(min=1).to(scores.dtype).reciprocal().gather(1, slots)
    if padding_mask is not None:
        weights = weights.masked_fill(padding_mask, 0)
    pooled = partition_sum(embeddings, weights, slots, members, filled)
    return Pooled(
        pooled,
        _mean_scores(scores, members, filled),
        _empty_slots(sizes, padding_mask, scores.size(1), window),
        slots,
        weights,
    )


def max_windows(
    embeddings: Tensor, scores: Tensor, k: int, *, window: int = 1, padding_mask: Tensor | None = None
) -> Pooled:
    """Take the maximum of each coordinate over the windows of :func:`mean_windows`.

    The record is approximate: a token's weight is the fraction of coordinates whose maximum it holds.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    window = check_count("window", window)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)
    scores = at_least_float32(scores)
    slots, members, filled = _windows(scores, k, window, padding_mask)
    batch, _, group = members.shape
    dim = embeddings.size(2)
    values = embeddings.gather(1, members.flatten(1).unsqueeze(2).expand(-1, -1, dim)).view(batch, k, group, dim)
    values = values.masked_fill(~filled.unsqueeze(3), float("-inf"))
    pooled, winners = values.max(dim=2)
    sizes = filled.sum(dim=2)
    shares = scores.new_zeros(batch, k, group).scatter_add(2, winners, scores.new_ones(()).expand_as(winners)) / dim
    # The share of a placeholder goes to column n, which is dropped.
    targets = members.masked_fill(~filled, scores.size(1)).flatten(1)
    weights = scores.new_zeros(batch, scores.size(1) + 1).scatter(1, targets, shares.flatten(1))[:, :-1]
    pooled = pooled.masked_fill(sizes.eq(0).unsqueeze(2), 0)
    return Pooled(
        pooled,
        _mean_scores(scores, members, filled),
        _empty_slots(sizes, padding_mask, scores.size(1), window),
        slots,
        weights,
    )


def repeat_slots(pooled: Tensor, slots: Tensor) -> Tensor:
    """Repeat each slot's vector for all tokens of the slot: (B, k, d), (B, n) slot of each token -> (B, n, d)."""
    return pooled.gather(1, slots.unsqueeze(2).expand(-1, -1, pooled.size(2)))


def _windows(scores: Tensor, k: int, window: int, padding_mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return slots (B, n), members (B, k, g) and filled (B, k, g), as taken by :func:`partition_sum`."""
    batch, length = scores.shape
    positions = token_positions((batch, length), padding_mask, scores.device)
    count = positions[:, -1:] + 1
    size = window_size(count, k, window)
    slots = positions // size
    tokens = torch.arange(length, device=scores.device).expand(batch, length)
    if padding_mask is not None:
        slots = slots.masked_fill(padding_mask, 0)
        tokens = padding_mask.long().sort(dim=1, stable=True).indices
    # (g,) index of a member in its window; (B, k, g) its position in the document
    member_index = torch.arange(window_size(length, k, window), device=scores.device)
    member_positions = torch.arange(k, device=scores.device).view(1, k, 1) * size.unsqueeze(2) + member_index
    filled = (member_index < size.unsqueeze(2)) & (member_positions < count.unsqueeze(2))
    members = tokens.gather(1, member_positions.clamp(max=length - 1).flatten(1)).view_as(member_positions)
    return slots, members, filled


def _mean_scores(scores: Tensor, members: Tensor, filled: Tensor) -> Tensor:
    """Return the mean score of each slot's members: (B, n), (B, k, g), (B, k, g) -> (B, k)."""
    values = scores.gather(1, members.flatten(1)).view_as(members).masked_fill(~filled, 0)
    return values.sum(dim=2) / filled.sum(dim=2).clamp(min=1)


def _empty_slots(sizes: Tensor, padding_mask: Tensor | None, length: int, window: int) -> Tensor | None:
    """Return (B, k) bool, True on slots without tokens; None if no slot can be empty."""
    k = sizes.size(1)
    all_taken = -(-length // window_size(length, k, window)) == k  # if all documents have ``length`` tokens
    return None if padding_mask is None and all_taken else sizes.eq(0)
