"""Reduced sequences of LSG attention: one key and value for every ``factor`` tokens (Condevaux and Harispe 2022).

All functions take keys and values (B, T, H, D), with T a multiple of the block size, and ``key_mask`` (B, T) bool,
False on padding. They return :class:`SparseTokens` of length M = T / factor. Sparse token j is made of tokens near ``j
* factor``. A sparse token made only of padding is masked. Otherwise padding is left out, so a document's sparse tokens
do not depend on its batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class SparseTokens(NamedTuple):
    """Keys and values of a reduced sequence."""

    key: Tensor
    """(B, M, H, D)."""
    value: Tensor
    """(B, M, H, D)."""
    key_mask: Tensor
    """(B, M, H) bool."""


def select_by_norm(key: Tensor, value: Tensor, key_mask: Tensor, chunk: int, factor: int) -> SparseTokens:
    """Select the ``chunk / factor`` keys of largest L2 norm in each chunk, per head.

    They are in ascending order of norm. The selection has no gradient.
    """
    exact = torch.promote_types(key.dtype, torch.float32)
    norms = key.detach().to(exact).norm(dim=-1).masked_fill(~key_mask.unsqueeze(-1), -1)
    best = norms.unflatten(1, (-1, chunk)).sort(dim=2, stable=True).indices[:, :, chunk - chunk // factor :]

    def gather(x: Tensor) -> Tensor:
        index = best.unsqueeze(-1).expand(-1, -1, -1, -1, x.size(-1))
        return x.unflatten(1, (-1, chunk)).gather(2, index).flatten(1, 2)

    return SparseTokens(gather(key), gather(value), gather(_per_head(key_mask, key).unsqueeze(-1)).squeeze(-1))


def select_strided(key: Tensor, value: Tensor, key_mask: Tensor, factor: int) -> SparseTokens:
    """Select one of every ``factor`` tokens: head h selects token h mod ``factor``. Needs ``factor`` heads or more."""
    start = torch.arange(key.size(2), device=key.device) % factor
    return _select_fixed(key, value, key_mask, factor, start.unsqueeze(0))


def select_block_strided(key: Tensor, value: Tensor, key_mask: Tensor, block: int, factor: int) -> SparseTokens:
    """Select r = block / factor consecutive tokens of each block: head h starts at token h * r mod ``block``."""
    kept = block // factor
    start = torch.arange(key.size(2), device=key.device) * kept % block
    return _select_fixed(key, value, key_mask, block, start + torch.arange(kept, device=key.device).unsqueeze(1))


def mean_of_groups(key: Tensor, value: Tensor, key_mask: Tensor, factor: int) -> SparseTokens:
    """Average every ``factor`` consecutive tokens."""
    weights = key_mask.unflatten(1, (-1, factor)).to(key.dtype)
    weights = weights / weights.sum(dim=2, keepdim=True).clamp(min=1)
    return _weigh_groups(key, value, key_mask, weights.unsqueeze(-1))


def weigh_groups_by_first(
    key: Tensor, value: Tensor, key_mask: Tensor, factor: int, first_query: Tensor
) -> SparseTokens:
    """Average every ``factor`` consecutive tokens, weighted by the attention of the document's first token.

    Args:
        key, value, key_mask, factor: see the module's docstring.
        first_query: (B, H, D) query of the first token that is not global.
    """
    logits = (key * first_query.unsqueeze(1)).sum(dim=-1) * key.size(-1) ** -0.5
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logits = logits.masked_fill(~key_mask.unsqueeze(-1), torch.finfo(logits.dtype).min)
    weights = logits.unflatten(1, (-1, factor)).softmax(dim=2).to(key.dtype)
    return _weigh_groups(key, value, key_mask, weights)


def mean_of_buckets(
    key: Tensor, value: Tensor, key_mask: Tensor, chunk: int, factor: int, rotations: list[Tensor]
) -> SparseTokens:
    """Average the tokens of each chunk whose keys have the same hash, per head; an empty bucket is masked.

    In each round after the first, buckets are hashed again by the sums of their keys. The last round leaves ``chunk /
    factor`` buckets.

    Args:
        key, value, key_mask, chunk, factor: see the module's docstring.
        rotations: (H, D, buckets // 2) per round: ``chunk // 2`` columns in all but the last one, which has
            ``chunk // factor // 2`` and at least one.
    """
    dtype = key.dtype
    exact = torch.promote_types(dtype, torch.float32)  # half precision cannot sum many tokens
    key, value = key.to(exact), value.to(exact)
    counts = _per_head(key_mask, key).unsqueeze(-1).to(key.dtype)
    # Keys, values and counts are one tensor, so that each round is one scatter.
    state = torch.cat([key * counts, value * counts, counts], dim=-1).unflatten(1, (-1, chunk))
    for number, rotation in enumerate(rotations, start=1):
        buckets = chunk // factor if number == len(rotations) else chunk
        state = _merge_buckets(state, rotation, buckets, key.size(-1))
    state = state.flatten(1, 2)
    count = state[..., -1:]
    keys, values = (state[..., :-1] / count.clamp(min=1)).chunk(2, dim=-1)
    return SparseTokens(keys.to(dtype), values.to(dtype), count.squeeze(-1) > 0)


def _merge_buckets(state: Tensor, rotation: Tensor, buckets: int, dim: int) -> Tensor:
    """Sum over each bucket: (B, N, chunk, H, 2 D + 1) -> (B, N, buckets, H, 2 D + 1)."""
    with torch.no_grad(), torch.autocast(state.device.type, enabled=False):
        exact = torch.promote_types(state.dtype, torch.float32)
        directions = F.normalize(state[..., :dim].to(exact), dim=-1)
        projected = torch.einsum("bnchd,hdp->bnchp", directions, rotation.to(exact))
        bucket = torch.cat([projected, -projected], dim=-1).argmax(dim=-1, keepdim=True)
    merged = state.new_zeros(*state.shape[:2], buckets, *state.shape[3:])
    return merged.scatter_add(2, bucket.expand_as(state), state)


def _per_head(key_mask: Tensor, key: Tensor) -> Tensor:
    """Repeat a mask for every head: (B, T) -> (B, T, H)."""
    return key_mask.unsqueeze(-1).expand(-1, -1, key.size(2))


def _select_fixed(key: Tensor, value: Tensor, key_mask: Tensor, size: int, index: Tensor) -> SparseTokens:
    """Select m of every ``size`` consecutive tokens: head h selects those at ``index[:, h]``, ``index`` is (m, H)."""
    head = torch.arange(key.size(2), device=key.device)
    parts = (key, value, _per_head(key_mask, key))
    kept = (x.unflatten(1, (-1, size))[:, :, index, head].flatten(1, 2) for x in parts)
    return SparseTokens(*kept)


def _weigh_groups(key: Tensor, value: Tensor, key_mask: Tensor, weights: Tensor) -> SparseTokens:
    """Sum groups with weights (B, M, factor, H or 1)."""
    factor = weights.size(2)
    key, value = ((x.unflatten(1, (-1, factor)) * weights.unsqueeze(-1)).sum(dim=2) for x in (key, value))
    return SparseTokens(key, value, _per_head(key_mask.unflatten(1, (-1, factor)).any(dim=2), key))
