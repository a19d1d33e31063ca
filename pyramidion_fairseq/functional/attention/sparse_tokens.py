"""The reduced sequence of LSG attention: one key and value for every ``factor`` tokens (Condevaux and Harispe 2022).

Every function takes keys and values (B, T, H, D), T a multiple of the block size, and ``visible`` (B, T) bool, False
on padding; it returns :class:`SparseTokens` of length M = T / factor, whose token j stems from the tokens near
``j * factor``. What stems from padding alone is not visible; what stems from some padding is as if there were none,
so that a document's sparse tokens do not depend on its batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class SparseTokens(NamedTuple):
    """A reduced sequence."""

    key: Tensor
    """(B, M, H, D)."""
    value: Tensor
    """(B, M, H, D)."""
    visible: Tensor
    """(B, M, H) bool."""


def select_by_norm(key: Tensor, value: Tensor, visible: Tensor, chunk: int, factor: int) -> SparseTokens:
    """The ``chunk / factor`` keys of largest L2 norm in each chunk, per head, in ascending order of their norms.

    The choice itself has no gradient.
    """
    exact = torch.promote_types(key.dtype, torch.float32)
    norms = key.detach().to(exact).norm(dim=-1).masked_fill(~visible.unsqueeze(-1), -1)
    best = norms.unflatten(1, (-1, chunk)).sort(dim=2, stable=True).indices[:, :, chunk - chunk // factor :]

    def gather(x: Tensor) -> Tensor:
        index = best.unsqueeze(-1).expand(-1, -1, -1, -1, x.size(-1))
        return x.unflatten(1, (-1, chunk)).gather(2, index).flatten(1, 2)

    return SparseTokens(gather(key), gather(value), gather(_per_head(visible, key).unsqueeze(-1)).squeeze(-1))


def select_strided(key: Tensor, value: Tensor, visible: Tensor, factor: int) -> SparseTokens:
    """Of every ``factor`` tokens, head h takes the one at h mod ``factor``. Heads should be at least ``factor``."""
    start = torch.arange(key.size(2), device=key.device) % factor
    return _select_fixed(key, value, visible, factor, start.unsqueeze(0))


def select_block_strided(key: Tensor, value: Tensor, visible: Tensor, block: int, factor: int) -> SparseTokens:
    """Of every block, head h takes r = block / factor tokens in a row, from h * r mod ``block`` on."""
    kept = block // factor
    start = torch.arange(key.size(2), device=key.device) * kept % block
    return _select_fixed(key, value, visible, block, start + torch.arange(kept, device=key.device).unsqueeze(1))


def mean_of_groups(key: Tensor, value: Tensor, visible: Tensor, factor: int) -> SparseTokens:
    """The mean of every ``factor`` tokens in a row."""
    weights = visible.unflatten(1, (-1, factor)).to(key.dtype)
    weights = weights / weights.sum(dim=2, keepdim=True).clamp(min=1)
    return _weigh_groups(key, value, visible, weights.unsqueeze(-1))


def weigh_groups_by_first(
    key: Tensor, value: Tensor, visible: Tensor, factor: int, first_query: Tensor
) -> SparseTokens:
    """The mean of every ``factor`` tokens in a row, weighted by the attention of the document's first token.

    Args:
        key, value, visible, factor: see above.
        first_query: (B, H, D) query of the first token that is no global one.
    """
    logits = (key * first_query.unsqueeze(1)).sum(dim=-1) * key.size(-1) ** -0.5
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logits = logits.masked_fill(~visible.unsqueeze(-1), torch.finfo(logits.dtype).min)
    weights = logits.unflatten(1, (-1, factor)).softmax(dim=2).to(key.dtype)
    return _weigh_groups(key, value, visible, weights)


def mean_of_buckets(
    key: Tensor, value: Tensor, visible: Tensor, chunk: int, factor: int, rotations: list[Tensor]
) -> SparseTokens:
    """The mean of the tokens of each chunk whose keys hash alike, per head; an empty bucket is not visible.

    Buckets are hashed again, by the sums of their keys, in each round but the first; the last one leaves
    ``chunk / factor`` buckets.

    Args:
        key, value, visible, chunk, factor: see above.
        rotations: (H, D, buckets // 2) per round: ``chunk // 2`` columns in all but the last one, which has
            ``chunk // factor // 2`` and at least one.
    """
    counts = _per_head(visible, key).unsqueeze(-1).to(key.dtype)
    # Counts ride along with keys and values: one scatter per round.
    state = torch.cat([key * counts, value * counts, counts], dim=-1).unflatten(1, (-1, chunk))
    for number, rotation in enumerate(rotations, start=1):
        buckets = chunk // factor if number == len(rotations) else chunk
        state = _merge_buckets(state, rotation, buckets, key.size(-1))
    state = state.flatten(1, 2)
    count = state[..., -1:]
    keys, values = (state[..., :-1] / count.clamp(min=1)).chunk(2, dim=-1)
    return SparseTokens(keys, values, count.squeeze(-1) > 0)


def _merge_buckets(state: Tensor, rotation: Tensor, buckets: int, dim: int) -> Tensor:
    """(B, N, chunk, H, 2 D + 1) -> (B, N, buckets, H, 2 D + 1): sums over what hashes alike."""
    with torch.no_grad(), torch.autocast(state.device.type, enabled=False):
        exact = torch.promote_types(state.dtype, torch.float32)
        directions = F.normalize(state[..., :dim].to(exact), dim=-1)
        projected = torch.einsum("bnchd,hdp->bnchp", directions, rotation.to(exact))
        bucket = torch.cat([projected, -projected], dim=-1).argmax(dim=-1, keepdim=True)
    merged = state.new_zeros(*state.shape[:2], buckets, *state.shape[3:])
    return merged.scatter_add(2, bucket.expand_as(state), state)


def _per_head(visible: Tensor, key: Tensor) -> Tensor:
    """(B, T) -> (B, T, H)."""
    return visible.unsqueeze(-1).expand(-1, -1, key.size(2))


def _select_fixed(key: Tensor, value: Tensor, visible: Tensor, size: int, index: Tensor) -> SparseTokens:
    """Of every ``size`` tokens in a row, head h takes those at ``index[:, h]``; ``index`` (m, H)."""
    head = torch.arange(key.size(2), device=key.device)
    kept = (x.unflatten(1, (-1, size))[:, :, index, head].flatten(1, 2) for x in (key, value, _per_head(visible, key)))
    return SparseTokens(*kept)


def _weigh_groups(key: Tensor, value: Tensor, visible: Tensor, weights: Tensor) -> SparseTokens:
    """Weighted sums over groups; ``weights`` (B, M, factor, H or 1)."""
    factor = weights.size(2)
    key, value = ((x.unflatten(1, (-1, factor)) * weights.unsqueeze(-1)).sum(dim=2) for x in (key, value))
    return SparseTokens(key, value, _per_head(visible.unflatten(1, (-1, factor)).any(dim=2), key))
