"""Slow, straightforward counterparts of the poolings by similarity, for one document without padding."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine similarity of two vectors, 0 if one of them is 0."""
    return (F.normalize(a, dim=0) @ F.normalize(b, dim=0)).item()


def similar_groups(vectors: Tensor, k: int) -> list[list[int]]:
    """Merge tokens until k groups are left (Bolya et al. 2023): (m, d), m above k -> tokens of each group.

    Groups are ordered by the mean position of their tokens.
    """
    groups = [[i] for i in range(len(vectors))]
    while len(groups) > k:
        means = [vectors[group].mean(dim=0) for group in groups]
        even, odd = range(0, len(groups), 2), range(1, len(groups), 2)
        partner = {i: max(odd, key=lambda j: cosine(means[i], means[j])) for i in even}  # ties go to the first
        ranked = sorted(even, key=lambda i: -cosine(means[i], means[partner[i]]))
        for i in ranked[: min(len(groups) // 2, len(groups) - k)]:
            groups[partner[i]] = groups[partner[i]] + groups[i]
            groups[i] = []
        groups = [group for group in groups if group]
    return sorted((sorted(group) for group in groups), key=lambda group: sum(group) / len(group))


def chunks(vectors: Tensor, k: int) -> list[list[int]]:
    """Cut before the k - 1 tokens least similar to their predecessor: (m, d), m above k -> tokens of each chunk."""
    similarity = {i: cosine(vectors[i], vectors[i - 1]) for i in range(1, len(vectors))}
    starts = sorted([0, *sorted(similarity, key=lambda i: similarity[i])[: k - 1]])
    return [list(range(start, end)) for start, end in zip(starts, [*starts[1:], len(vectors)])]
