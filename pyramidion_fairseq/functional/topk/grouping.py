"""Poolings that read representations, not scores: merging similar tokens, cutting between dissimilar tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .selection import order_by_score, zero_padding
from .successive_halving import Pooled, at_least_float32, check_arguments, keep_all

#: Number of tokens of each document that are compared with all others at a time. Bounds the memory of
#: :func:`merge_similar`.
ROWS = 1024


def merge_similar(embeddings: Tensor, scores: Tensor, k: int, *, padding_mask: Tensor | None = None) -> Pooled:
    """Merge the most similar tokens until k are left (Bolya et al. 2023, "Token Merging").

    In each round the candidates are split into those at even and those at odd positions. Each even candidate is
    matched with the odd candidate of highest cosine similarity. The pairs with the highest similarities are merged, at
    most half of all candidates per round. A merged candidate is the mean of all its tokens. There are no learned
    parameters. Bolya et al. compare attention keys; this function compares the representations.

    Args:
        embeddings: (B, n, d), any floating dtype; similarities are computed in at least float32.
        scores: (B, n), averaged like the representations and otherwise unused.
        k: number of representations, at least 1. If n <= k, all tokens are kept.
        padding_mask: (B, n) bool, True on padding, at any position; None if there is no padding.

    Returns:
        :class:`Pooled` with min(n, k) slots, ordered by the mean position of their tokens. The record is exact.
        Differentiable with respect to ``embeddings`` for fixed groups. Time is O(n^2 d) per document. Similarities of
        :data:`ROWS` tokens are held at a time.

    Raises:
        ValueError: shapes do not match, or k < 1.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)
    embeddings = zero_padding(embeddings, padding_mask)
    tokens, counts = _document_tokens(scores, padding_mask)
    with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
        groups = _similar_groups(_tokens_first(embeddings, tokens), counts, k)
    return _group_means(embeddings, scores, _restore_order(groups, tokens), k, padding_mask)


def boundary_chunks(embeddings: Tensor, scores: Tensor, k: int, *, padding_mask: Tensor | None = None) -> Pooled:
    """Cut the document before the k - 1 tokens that are least similar to their predecessor, and average each chunk.

    Boundaries are those of H-Net (Hwang et al. 2025), with the probability (1 - cos(x_t, x_{t-1})) / 2, but without
    projections, so there are no learned parameters. Instead of H-Net's threshold of 1/2, the threshold is the one that
    leaves k chunks. H-Net keeps the first vector of a chunk; the mean uses every token.

    Args:
        embeddings, scores, k, padding_mask: see :func:`merge_similar`.

    Returns:
        :class:`Pooled` with min(n, k) slots in the order of the document. The record is exact. Differentiable with
        respect to ``embeddings`` for fixed boundaries. Ties go to the earlier boundary.

    Raises:
        ValueError: shapes do not match, or k < 1.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)
    embeddings = zero_padding(embeddings, padding_mask)
    tokens, counts = _document_tokens(scores, padding_mask)
    with torch.no_grad():
        x = F.normalize(_tokens_first(embeddings, tokens), dim=2)
        unlike = 1 - (x[:, 1:] * x[:, :-1]).sum(dim=2)
        unlike = torch.cat([torch.full_like(unlike[:, :1], torch.inf), unlike], dim=1)  # the document's start
        valid = torch.arange(unlike.size(1), device=unlike.device) < counts
        starts = order_by_score(unlike, valid)[:, :k]
        is_start = torch.zeros_like(valid).scatter(1, starts, valid.gather(1, starts))
        chunks = (is_start.cumsum(dim=1) - 1).clamp(min=0)
    return _group_means(embeddings, scores, _restore_order(chunks, tokens), k, padding_mask)


def _document_tokens(scores: Tensor, padding_mask: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Return the (B, n) int64 order with tokens before padding, None for the identity; and the (B, 1) token counts."""
    batch, length = scores.shape
    if padding_mask is None:
        return None, torch.full((batch, 1), length, device=scores.device)
    return padding_mask.long().sort(dim=1, stable=True).indices, (~padding_mask).sum(dim=1, keepdim=True)


def _tokens_first(embeddings: Tensor, tokens: Tensor | None) -> Tensor:
    """Return the (B, n, d) representations in the order of ``tokens``, at least float32."""
    x = at_least_float32(embeddings)
    if tokens is not None:
        x = x.gather(1, tokens.unsqueeze(2).expand_as(x))
    return x


def _restore_order(groups: Tensor, tokens: Tensor | None) -> Tensor:
    """Undo the reordering of ``x.gather(1, tokens)`` for (B, n) groups."""
    return groups if tokens is None else torch.zeros_like(groups).scatter(1, tokens, groups)


def _group_means(embeddings: Tensor, scores: Tensor, slots: Tensor, k: int, padding_mask: Tensor | None) -> Pooled:
    """Average the tokens of each slot: (B, n, d) with zeros on padding, (B, n), (B, n) int64 -> k slots."""
    batch, _, dim = embeddings.shape
    scores = zero_padding(at_least_float32(scores), padding_mask)
    valid = torch.ones_like(scores) if padding_mask is None else (~padding_mask).to(scores.dtype)
    slots = slots if padding_mask is None else slots.masked_fill(padding_mask, 0)
    sizes = scores.new_zeros(batch, k).scatter_add(1, slots, valid)
    weights = valid / sizes.gather(1, slots).clamp(min=1)
    tokens = at_least_float32(embeddings)
    parts = tokens * weights.unsqueeze(2).to(tokens.dtype)
    sums = parts.new_zeros(batch, k, dim).scatter_add(1, slots.unsqueeze(2).expand_as(parts), parts)
    slot_scores = scores.new_zeros(batch, k).scatter_add(1, slots, weights * scores)
    slot_padding_mask = None if padding_mask is None else sizes.eq(0)
    return Pooled(sums.to(embeddings.dtype), slot_scores, slot_padding_mask, slots, weights)


def _similar_groups(x: Tensor, counts: Tensor, k: int) -> Tensor:
    """Return the group of each token, with groups numbered by mean position.

    Args:
        x: (B, n, d), tokens first, zeros after them.
        counts: (B, 1) number of tokens of each document.
        k: number of groups to keep, less than n. A document with fewer tokens keeps them all.

    Returns:
        (B, n) int64 in [0, k).
    """
    groups = torch.arange(x.size(1), device=x.device).expand(x.shape[:2])
    candidates, sums = counts, x
    while sums.size(1) > k:
        # Documents of full length have `width` candidates left, shorter ones at most as many.
        width = max(k, sums.size(1) - sums.size(1) // 2)
        merges = torch.minimum(candidates // 2, (candidates - k).clamp(min=0))
        # Below `width`: c candidates become max(ceil(c / 2), min(c, k)). The entries after them get the last index.
        index_after_merge = _merge_round(F.normalize(sums, dim=2), candidates, merges)
        targets = index_after_merge.unsqueeze(2).expand_as(sums)
        sums = sums.new_zeros(len(x), width, x.size(2)).scatter_add(1, targets, sums)
        groups = index_after_merge.gather(1, groups)
        candidates = candidates - merges
    return _by_mean_position(groups, counts, k)


def _merge_round(x: Tensor, candidates: Tensor, merges: Tensor) -> Tensor:
    """Merge the most similar pairs of one round, and return the new index of each candidate.

    Args:
        x: (B, m, d) unit vectors.
        candidates: (B, 1) number of candidates among the m.
        merges: (B, 1) number of pairs to merge, at most half of the candidates.

    Returns:
        (B, m) int64.
    """
    positions = torch.arange(x.size(1), device=x.device)
    valid = positions < candidates
    even, odd = x[:, 0::2], x[:, 1::2]
    best, target = _most_similar(even, odd, valid[:, 1::2])
    order = order_by_score(best, valid[:, 0::2])
    merged = torch.zeros_like(valid).scatter(1, 2 * order, positions[: order.size(1)] < merges)
    kept = valid & ~merged  # no write in place to a tensor that may lack torch.func.vmap's dimension
    index_after_merge = (kept.cumsum(dim=1) - 1).clamp(min=0)
    index_of_target = index_after_merge.gather(1, 2 * target + 1)
    index_after_merge[:, 0::2] = torch.where(merged[:, 0::2], index_of_target, index_after_merge[:, 0::2])
    return index_after_merge


def _most_similar(even: Tensor, odd: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return similarity and index of the most similar valid candidate: (B, p, d), (B, q, d), (B, q) -> (B, p) each."""
    results = []
    for rows in even.split(ROWS, dim=1):
        similarities = (rows @ odd.mT).masked_fill(~valid.unsqueeze(1), -torch.inf)
        results.append(similarities.max(dim=2))
    return torch.cat([r.values for r in results], dim=1), torch.cat([r.indices for r in results], dim=1)


def _by_mean_position(groups: Tensor, counts: Tensor, k: int) -> Tensor:
    """Renumber (B, n) groups in [0, k) by the mean position of their tokens; row b has ``counts[b]`` tokens."""
    positions = torch.arange(groups.size(1), device=groups.device, dtype=torch.float64)
    valid = (positions < counts).to(positions.dtype)
    zeros = positions.new_zeros(len(groups), k)
    sizes = zeros.scatter_add(1, groups, valid)
    means = zeros.scatter_add(1, groups, valid * positions) / sizes  # NaN, which sorts last, without tokens
    ranks = means.argsort(dim=1, stable=True).argsort(dim=1)
    return ranks.gather(1, groups)
