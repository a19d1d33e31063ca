"""Slow, straightforward counterparts of the tournament and of block-wise attention, as references for the tests."""

from __future__ import annotations

from typing import List, Tuple

import torch
from torch import Tensor

from ..topk.successive_halving import Pooled

#: Vector, score, and the tokens of the vector with their weights.
_Candidate = Tuple[Tensor, Tensor, List[Tuple[int, Tensor]]]


def peaked_softmax(left: Tensor, right: Tensor, base: float | None) -> tuple[Tensor, Tensor]:
    """Return the weights of a pair of scores: softmax(base**score), or softmax(score) if base is None."""
    pair = torch.stack([left, right])
    left, right = torch.softmax(pair if base is None else base**pair, dim=0)
    return left, right


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
    """Run the tournament document by document and pair by pair, with the fast function's arguments and result."""
    batch, length, dim = embeddings.shape
    k_out = min(k, length)
    out = []
    out_scores = []
    mask = torch.ones(batch, k_out, dtype=torch.bool)
    slots = torch.zeros(batch, length, dtype=torch.long)
    weights = scores.new_zeros(batch, length)
    for b in range(batch):
        tokens = [i for i in range(length) if padding_mask is None or not padding_mask[b, i]]
        winners = _tournament(embeddings[b], scores[b], tokens, k, base, sort, preserve_order)
        # If n <= k there is nothing to select. The slot of each token is its position, and padding keeps its position,
        # too.
        slot_numbers = tokens if length <= k else range(len(winners))
        rows = [embeddings.new_zeros(dim)] * k_out if length > k else list(embeddings[b])
        row_scores = [scores.new_zeros(())] * k_out if length > k else list(scores[b])
        for slot, (vector, score, parts) in zip(slot_numbers, winners):
            rows[slot] = vector
            row_scores[slot] = score
            mask[b, slot] = False
            for token, weight in parts:
                slots[b, token] = slot
                weights[b, token] = weight.detach()
        out.append(torch.stack(rows))
        out_scores.append(torch.stack(row_scores))
    return Pooled(torch.stack(out), torch.stack(out_scores), None if padding_mask is None else mask, slots, weights)


def _tournament(
    embeddings: Tensor,
    scores: Tensor,
    tokens: list[int],
    k: int,
    base: float | None,
    sort: bool,
    preserve_order: bool,
) -> list[_Candidate]:
    """Run the tournament of one document, and return its slots, at most k."""
    one = scores.new_ones(())
    candidates = [(embeddings[i], scores[i], [(i, one)]) for i in tokens]
    if len(candidates) <= k:
        return candidates
    bracket = k
    while bracket < len(candidates):
        bracket *= 2
    while bracket > k:
        if sort:
            candidates = sorted(candidates, key=lambda c: -c[1].item())  # stable
        survivors = []
        for i, left in enumerate(candidates[: bracket // 2]):
            opponent = bracket - 1 - i
            survivors.append(_combine(left, candidates[opponent], base) if opponent < len(candidates) else left)
        candidates = survivors
        bracket = bracket // 2
    if preserve_order:
        candidates.sort(key=lambda c: c[2][0][0])
    return candidates


def _combine(left: _Candidate, right: _Candidate, base: float | None) -> _Candidate:
    """Merge a pair of candidates."""
    w_left, w_right = peaked_softmax(left[1], right[1], base)
    return (
        w_left * left[0] + w_right * right[0],
        w_left * left[1] + w_right * right[1],
        [(token, w_left * weight) for token, weight in left[2]]
        + [(token, w_right * weight) for token, weight in right[2]],
    )


def algorithm_1(embeddings: Tensor, scores: Tensor, k: int, base: float | None = 20.0) -> tuple[Tensor, Tensor]:
    """Follow Algorithm 1 as printed, for a batch: every round sorts, gathers and mixes all representations.

    Args:
        embeddings: (B, n, d), n / k a power of two.
        scores: (B, n); ties go to the earlier token.
        k: number of representations to keep.
        base: base of the peaked softmax, or None.

    Returns:
        (B, k, d) representations and (B, k) scores, in the order of the last round.
    """
    while scores.size(1) > k:
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        embeddings = embeddings.gather(1, order.unsqueeze(2).expand_as(embeddings))
        half = scores.size(1) // 2
        left = scores[:, :half]
        right = scores[:, half:].flip(1)
        w_left, w_right = peaked_softmax(left, right, base)
        scores = w_left * left + w_right * right
        first = embeddings[:, :half]
        second = embeddings[:, half:].flip(1)
        embeddings = w_left.unsqueeze(2) * first + w_right.unsqueeze(2) * second
    return embeddings, scores


def blockwise_attention(query: Tensor, key: Tensor, value: Tensor, size: int, padding_mask: Tensor | None) -> Tensor:
    """Attend inside blocks with loops: softmax(q k^T / sqrt(d)) v, all (B, H, T, D); rows at padding stay zero."""
    out = torch.zeros_like(query)
    batch, heads, length, dim = query.shape
    for b in range(batch):
        for start in range(0, length, size):
            block = [
                t for t in range(start, min(start + size, length)) if padding_mask is None or not padding_mask[b, t]
            ]
            for h in range(heads):
                if block:
                    logits = query[b, h, block] @ key[b, h, block].T / dim**0.5
                    out[b, h, block] = logits.softmax(dim=-1) @ value[b, h, block]
    return out
