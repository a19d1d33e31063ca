"""Pooling without scores by what the representations say: similar tokens, or boundaries between unlike ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .selection import order_by_score, zero_padding
from .successive_halving import Pooled, at_least_float32, check_arguments, keep_all

#: Tokens of each document that are compared with all others at once: bounds the memory of :func:`merge_similar`.
ROWS = 1024


def merge_similar(embeddings: Tensor, scores: Tensor, k: int, *, padding_mask: Tensor | None = None) -> Pooled:
    """Merge the most similar tokens until k are left (Bolya et al. 2023, "Token Merging").

    In each round the candidates are split into those at even and at odd positions. Every even one finds the odd one
    with the largest cosine similarity, and the pairs with the largest similarities are merged, at most half of all
    candidates in a round. A merged candidate is the mean of all its tokens. There is nothing to be learned. Bolya et
    al. compare keys of the attention; here the representations themselves are compared.

    Args:
        embeddings: (B, n, d), any floating dtype; similarities are computed in float32 at least.
        scores: (B, n); averaged along, otherwise not used.
        k: number of representations, at least 1. With n <= k everything is kept.
        padding_mask: (B, n) bool, True on padding, which may stand anywhere; None where there is none.

    Returns:
        :class:`Pooled` with min(n, k) slots, ordered by the mean position of their tokens. The record is exact.
        Differentiable in ``embeddings``, the groups taken as given. Time is O(n^2 d) a document; similarities of
        :data:`ROWS` tokens are held at once.

    Raises:
        ValueError: shapes do not fit, or k is below 1.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)
    embeddings = zero_padding(embeddings, padding_mask)
    tokens, counts = _document_tokens(scores, padding_mask)
    with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
        groups = _similar_groups(_compared(embeddings, tokens), counts, k)
    return _group_means(embeddings, scores, _back(groups, tokens), k, padding_mask)


def boundary_chunks(embeddings: Tensor, scores: Tensor, k: int, *, padding_mask: Tensor | None = None) -> Pooled:
    """Cut the document before the k - 1 tokens that are least like the one before, and average the chunks.

    H-Net's boundaries (Hwang et al. 2025): probability (1 - cos(x_t, x_{t-1})) / 2, without projections, so that there
    is nothing to be learned. Its threshold of 1/2 becomes the one that leaves k chunks. H-Net keeps the first vector
    of a chunk; the mean loses no token.

    Args:
        embeddings, scores, k, padding_mask: as of :func:`merge_similar`.

    Returns:
        :class:`Pooled` with min(n, k) slots in the order of the document. The record is exact. Differentiable in
        ``embeddings``, the boundaries taken as given. Ties go to the earlier boundary.

    Raises:
        ValueError: shapes do not fit, or k is below 1.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)
    embeddings = zero_padding(embeddings, padding_mask)
    tokens, counts = _document_tokens(scores, padding_mask)
    with torch.no_grad():
        x = F.normalize(_compared(embeddings, tokens), dim=2)
        unlike = 1 - (x[:, 1:] * x[:, :-1]).sum(dim=2)
        unlike = torch.cat([torch.full_like(unlike[:, :1], torch.inf), unlike], dim=1)  # the document's start
        valid = torch.arange(unlike.size(1), device=unlike.device) < counts
        starts = order_by_score(unlike, valid)[:, :k]
        is_start = torch.zeros_like(valid).scatter(1, starts, valid.gather(1, starts))
        chunks = (is_start.cumsum(dim=1) - 1).clamp(min=0)
    return _group_means(embeddings, scores, _back(chunks, tokens), k, padding_mask)


def _document_tokens(scores: Tensor, padding_mask: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Return (B, n) int64 positions, those of tokens first, None for all as they are; (B, 1) numbers of tokens."""
    batch, length = scores.shape
    if padding_mask is None:
        return None, torch.full((batch, 1), length, device=scores.device)
    return padding_mask.long().sort(dim=1, stable=True).indices, (~padding_mask).sum(dim=1, keepdim=True)


def _compared(embeddings: Tensor, tokens: Tensor | None) -> Tensor:
    """Return (B, n, d) representations, those of tokens first, in float32 at least."""
    x = at_least_float32(embeddings)
    if tokens is not None:
        x = x.gather(1, tokens.unsqueeze(2).expand_as(x))
    return x


def _back(groups: Tensor, tokens: Tensor | None) -> Tensor:
    """Return the groups in the order of the positions again: the inverse of ``x.gather(1, tokens)``."""
    return groups if tokens is None else torch.zeros_like(groups).scatter(1, tokens, groups)


def _group_means(embeddings: Tensor, scores: Tensor, slots: Tensor, k: int, padding_mask: Tensor | None) -> Pooled:
    """Average the tokens of each slot: (B, n, d) with zeros on padding, (B, n), (B, n) int64 -> k slots."""
    batch, _, dim = embeddings.shape
    scores = zero_padding(at_least_float32(scores), padding_mask)
    valid = torch.ones_like(scores) if padding_mask is None else (~padding_mask).to(scores.dtype)
    slots = slots if padding_mask is None else slots.masked_fill(padding_mask, 0)
    sizes = scores.new_zeros(batch, k).scatter_add(1, slots, valid)
    weights = valid / sizes.gather(1, slots).clamp(min=1)
    parts = at_least_float32(embeddings) * weights.unsqueeze(2).to(
        torch.promote_types(embeddings.dtype, torch.float32)
    )
    sums = parts.new_zeros(batch, k, dim).scatter_add(1, slots.unsqueeze(2).expand_as(parts), parts)
    slot_scores = scores.new_zeros(batch, k).scatter_add(1, slots, weights * scores)
    slot_padding_mask = None if padding_mask is None else sizes.eq(0)
    return Pooled(sums.to(embeddings.dtype), slot_scores, slot_padding_mask, slots, weights)


def _similar_groups(x: Tensor, counts: Tensor, k: int) -> Tensor:
    """Return the group of every token, numbered by mean position.

    Args:
        x: (B, n, d), zeros behind the document's tokens.
        counts: (B, 1) tokens of each document.
        k: groups to be left, below n; a document with fewer tokens keeps them all.

    Returns:
        (B, n) int64, below k.
    """
    groups = torch.arange(x.size(1), device=x.device).expand(x.shape[:2])
    candidates, sums = counts, x
    while sums.size(1) > k:
        # A document of the full length has as many left; the others have no more.
        width = max(k, sums.size(1) - sums.size(1) // 2)
        merges = torch.minimum(candidates // 2, (candidates - k).clamp(min=0))
        new = _merge_round(F.normalize(sums, dim=2), candidates, merges).clamp(max=width - 1)
        sums = sums.new_zeros(len(x), width, x.size(2)).scatter_add(1, new.unsqueeze(2).expand_as(sums), sums)
        groups = new.gather(1, groups)
        candidates = candidates - merges
    return _by_mean_position(groups, counts, k)


def _merge_round(x: Tensor, candidates: Tensor, merges: Tensor) -> Tensor:
    """Return the new number of every candidate.

    Args:
        x: (B, m, d) vectors of length one.
        candidates: (B, 1) how many of the m are there.
        merges: (B, 1) pairs to merge, at most half of the candidates.

    Returns:
        (B, m) int64.
    """
    positions = torch.arange(x.size(1), device=x.device)
    valid = positions < candidates
    even, odd = x[:, 0::2], x[:, 1::2]
    best, target = _most_similar(even, odd, valid[:, 1::2])
    order = order_by_score(best, valid[:, 0::2])
    merged = torch.zeros_like(valid).scatter(1, 2 * order, positions[: order.size(1)] < merges)
    kept = valid & ~merged  # nothing is written in place that torch.func.vmap could have without its dimension
    new = (kept.cumsum(dim=1) - 1).clamp(min=0)
    new[:, 0::2] = torch.where(merged[:, 0::2], new.gather(1, 2 * target + 1), new[:, 0::2])
    return new


def _most_similar(even: Tensor, odd: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return similarity and index of the most similar valid one: (B, p, d), (B, q, d), (B, q) -> (B, p) each."""
    results = []
    for rows in even.split(ROWS, dim=1):
        similarities = (rows @ odd.mT).masked_fill(~valid.unsqueeze(1), -torch.inf)
        results.append(similarities.max(dim=2))
    return torch.cat([r.values for r in results], dim=1), torch.cat([r.indices for r in results], dim=1)


def _by_mean_position(groups: Tensor, counts: Tensor, k: int) -> Tensor:
    """Renumber (B, n) groups below k by the mean position of the first ``counts`` (B, 1) tokens that are in them."""
    positions = torch.arange(groups.size(1), device=groups.device, dtype=torch.float64)
    valid = (positions < counts).to(positions.dtype)
    zeros = positions.new_zeros(len(groups), k)
    sizes = zeros.scatter_add(1, groups, valid)
    means = zeros.scatter_add(1, groups, valid * positions) / sizes  # NaN, which sorts last, without tokens
    ranks = means.argsort(dim=1, stable=True).argsort(dim=1)
    return ranks.gather(1, groups)
