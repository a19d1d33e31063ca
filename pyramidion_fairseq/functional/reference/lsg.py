"""Slow, straightforward counterpart of LSG attention, token by token, for one document without padding.

In this module, a reduced sequence is a list of (key, value) pairs of one head, None for a sparse token without tokens.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from .attention import attend

#: Key and value of each sparse token of one head.
Reduced = List[Optional[Tuple[Tensor, Tensor]]]


def lsg_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_globals: int,
    block: int,
    factor: int,
    sparse: list[Reduced],
    reach: int,
) -> Tensor:
    """Compute LSG attention on (G + T, H, D), global tokens first. ``sparse`` has one reduced sequence per head."""
    out = torch.empty_like(query)
    for h in range(query.size(1)):
        pairs = list(zip(key[:, h], value[:, h]))
        everywhere = pairs[:num_globals]
        tokens = pairs[num_globals:]
        for t in range(len(pairs)):
            seen = pairs
            if t >= num_globals:
                i = (t - num_globals) // block
                kept = block // factor  # number of sparse tokens per block
                window = tokens[max(i - 1, 0) * block : (i + 2) * block]
                beside = [
                    *range((i - 1) * kept - reach, (i - 1) * kept),
                    *range((i + 2) * kept, (i + 2) * kept + reach),
                ]
                reached = [sparse[h][j] for j in beside if 0 <= j < len(sparse[h])]
                seen = everywhere + [pair for pair in reached if pair is not None] + window
            out[t, h] = attend(query[t, h], *(torch.stack(side) for side in zip(*seen)))
    return out


def norm(key: Tensor, value: Tensor, h: int, chunk: int, factor: int) -> Reduced:
    """Select the keys of largest norm of each chunk, in ascending order of norm."""
    reduced: Reduced = []
    for start in range(0, len(key), chunk):
        tokens = sorted(range(start, min(start + chunk, len(key))), key=lambda t: key[t, h].norm().item())
        kept = tokens[max(len(tokens) - chunk // factor, 0) :]
        reduced += [None] * (chunk // factor - len(kept)) + [(key[t, h], value[t, h]) for t in kept]
    return reduced


def pooling(key: Tensor, value: Tensor, h: int, factor: int) -> Reduced:
    """Average groups of ``factor`` consecutive tokens."""
    return [(key[s : s + factor, h].mean(0), value[s : s + factor, h].mean(0)) for s in range(0, len(key), factor)]


def bos_pooling(query: Tensor, key: Tensor, value: Tensor, h: int, factor: int) -> Reduced:
    """Average groups of ``factor`` consecutive tokens, weighted by the attention of the first token."""
    reduced: Reduced = []
    for s in range(0, len(key), factor):
        keys = key[s : s + factor, h]
        values = value[s : s + factor, h]
        weights = (keys @ query[0, h] / query.size(-1) ** 0.5).softmax(dim=0)
        reduced.append((weights @ keys, weights @ values))
    return reduced


def block_stride(key: Tensor, value: Tensor, h: int, block: int, factor: int) -> Reduced:
    """Select block / factor consecutive tokens of each block, depending on the head; block = factor is ``stride``."""
    kept = block // factor
    reduced: Reduced = []
    for start in range(0, len(key), block):
        for t in range(start + h * kept % block, start + h * kept % block + kept):
            reduced.append((key[t, h], value[t, h]) if t < len(key) else None)
    return reduced


def lsh(key: Tensor, value: Tensor, h: int, chunk: int, factor: int, rotations: list[Tensor]) -> Reduced:
    """Average the tokens of each bucket, hashing the buckets again in every round."""
    reduced: Reduced = []
    for start in range(0, len(key), chunk):
        items = [(key[t, h], value[t, h], 1) for t in range(start, min(start + chunk, len(key)))]
        for number, rotation in enumerate(rotations, start=1):
            count = chunk // factor if number == len(rotations) else chunk
            buckets: list[tuple[Tensor, Tensor, int] | None] = [None] * count
            for item in items:
                projected = item[0] @ rotation[h]
                bucket = int(torch.cat([projected, -projected]).argmax())
                old = buckets[bucket]
                if old is not None:
                    item = old[0] + item[0], old[1] + item[1], old[2] + item[2]
                buckets[bucket] = item
            items = [item for item in buckets if item is not None]
        reduced += [None if made is None else (made[0] / made[2], made[1] / made[2]) for made in buckets]
    return reduced
