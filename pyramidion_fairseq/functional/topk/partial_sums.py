"""Slot sums over a part of a document's tokens. Over all parts of a document, they add up to the pooled vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from .partition import partition_sum


def partial_slot_sums(embeddings: Tensor, weights: Tensor, slots: Tensor, k: int) -> Tensor:
    """Sum the weighted tokens of each slot over a part of the document.

    Differentiable once with respect to ``embeddings`` and ``weights``.

    Args:
        embeddings: (B, w, d), the tokens of the part.
        weights: (B, w) weights of the tokens, 0 for those that contribute to no slot.
        slots: (B, w) int64 in [0, k), slots of the tokens.
        k: number of slots of the whole document.

    Returns:
        (B, k, d); zeros for slots without a token in the part.
    """
    members, filled = slot_members(slots, weights.detach() != 0, k)
    return partition_sum(embeddings, weights, slots, members, filled)


def slot_members(slots: Tensor, takes_part: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the tokens of each slot: the inverse of ``slots``, as taken by :func:`~.partition.partition_sum`.

    Args:
        slots: (B, w) int64 in [0, k).
        takes_part: (B, w) bool, False on tokens to leave out.
        k: number of slots.

    Returns:
        (B, k, g) int64 tokens and (B, k, g) bool, False on placeholders; g is the size of the largest slot.
    """
    batch, width = slots.shape
    sort_keys = slots.masked_fill(~takes_part, k)  # tokens left out go to slot k, which is dropped
    order = sort_keys.argsort(dim=1, stable=True)
    sorted_slots = sort_keys.gather(1, order)
    sizes = torch.zeros(batch, k + 1, dtype=torch.int64, device=slots.device)
    sizes = sizes.scatter_add(1, sorted_slots, torch.ones_like(sorted_slots))
    first_of_slot = sizes.cumsum(dim=1) - sizes  # (B, k + 1) where each slot starts in the sorted order
    member_index = torch.arange(width, device=slots.device) - first_of_slot.gather(1, sorted_slots)
    group = max(1, int(sizes[:, :k].max()))
    kept = sorted_slots < k
    # The (k, g) cells of the slots, flat, and one more that takes the tokens left out and is dropped.
    cells = torch.where(kept, sorted_slots * group + member_index, k * group)
    members = torch.zeros(batch, k * group + 1, dtype=torch.int64, device=slots.device).scatter(1, cells, order)
    filled = torch.zeros_like(members, dtype=torch.bool).scatter(1, cells, kept)
    return members[:, :-1].unflatten(1, (k, group)), filled[:, :-1].unflatten(1, (k, group))
