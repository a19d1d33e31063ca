"""Slow, straightforward counterparts of the attentions, token by token, for one document without padding.

Tensors are (T, H, D) in this module, and loops run over tokens and heads.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(D)) v of one query: (D), (K, D), (K, D) -> (D)."""
    return (key @ query / query.numel() ** 0.5).softmax(dim=0) @ value


def window_attention(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """Let each token see its own block of ``window`` tokens and the two adjacent blocks."""
    out = torch.empty_like(query)
    length, heads = query.shape[:2]
    for t in range(length):
        start = t // window * window
        seen = slice(max(start - window, 0), start + 2 * window)
        for h in range(heads):
            out[t, h] = attend(query[t, h], key[seen, h], value[seen, h])
    return out


def efficient_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return (rho_q(Q) rho_k(K)^T) V, the T x T form of Shen et al. 2021, Eq. 6."""
    out = torch.empty_like(value)
    for h in range(query.size(1)):
        rho_q = query[:, h].softmax(dim=1)
        rho_k = key[:, h].softmax(dim=0)
        out[:, h] = (rho_q @ rho_k.T) @ value[:, h]
    return out


def lsh_buckets(x: Tensor, rotations: Tensor, bucket_size: int) -> Tensor:
    """Return argmax([xR; -xR]), using as many columns as the document needs: (T, H, D), (R, H, D, P) -> (H, R, T)."""
    length, heads, _ = x.shape
    columns = 1
    while columns * 2 * bucket_size < length and columns < rotations.size(-1):
        columns += 1
    out = torch.empty(heads, len(rotations), length, dtype=torch.long)
    for h in range(heads):
        for r, rotation in enumerate(rotations[:, h, :, :columns]):
            out[h, r] = torch.cat([x[:, h] @ rotation, -x[:, h] @ rotation], dim=1).argmax(dim=1)
    return out


def lsh_attention(query: Tensor, value: Tensor, buckets: Tensor, chunk: int) -> Tensor:
    """Take one softmax over all other tokens seen in any round, or the token itself if none (Kitaev et al. 2020)."""
    out = torch.empty_like(value)
    length, heads = query.shape[:2]
    for h in range(heads):
        seen: list[set[int]] = [set() for _ in range(length)]
        for hashed in buckets[h].tolist():
            order = sorted(range(length), key=lambda t: (hashed[t], t))
            for rank, token in enumerate(order):
                start = rank // chunk * chunk
                seen[token].update(order[max(start - chunk, 0) : start + chunk])
        for t in range(length):
            others = sorted(seen[t] - {t}) or [t]
            keys = query[others, h] / query[others, h].norm(dim=-1, keepdim=True)
            out[t, h] = attend(query[t, h], keys, value[others, h])
    return out
