"""Slow, straightforward counterparts of the selections, relaxations, windows and column sums, document by document."""

from __future__ import annotations

import math
from typing import Any, Callable

import torch
from torch import Tensor

from ..topk.successive_halving import Pooled

# Each rule below takes one document of more than k tokens, without padding. It returns, for each slot, the list of
# (token, share) of its members, in the order of the document.


def hard_rule(scores: list[float], k: int) -> list[list[tuple[int, float]]]:
    """Select the k tokens with the highest scores; ties go to the earlier token (paper, Eq. 2)."""
    best = sorted(range(len(scores)), key=lambda i: -scores[i])[:k]
    return [[(i, 1.0)] for i in sorted(best)]


def window_rule(scores: list[float], k: int, window: int) -> list[list[tuple[int, float]]]:
    """Cut windows of ``window`` tokens, or wider ones if the document does not fit into k of them."""
    tokens = list(range(len(scores)))
    while len(tokens) > k * window:
        window += 1
    parts = [tokens[start : start + window] for start in range(0, len(tokens), window)]
    return [[(i, 1.0 / len(part)) for i in part] for part in parts]


def iterative_rule(scores: list[float], k: int, temperature: float) -> list[list[tuple[int, float]]]:
    """Take, k times, a softmax of distances from the highest remaining score (Goyal et al. 2018, Algorithm 2)."""
    left = list(range(len(scores)))
    rows = {}
    for _ in range(k):
        best = max(left, key=lambda i: scores[i])  # the first of equals
        exps = [math.exp(-((scores[i] - scores[best]) ** 2) / temperature) for i in left]
        rows[best] = [(i, e / sum(exps)) for i, e in zip(left, exps)]
        left.remove(best)
    return [rows[leader] for leader in sorted(rows)]


def gumbel_rule(scores: list[float], k: int, temperature: float) -> list[list[tuple[int, float]]]:
    """Take, k times, p = softmax(keys), keys += log(1 - p), on log scores (Xie and Ermon 2019, without noise)."""
    keys = [math.log(max(score, 1e-5)) for score in scores]
    leaders = sorted(range(len(keys)), key=lambda i: -keys[i])[:k]
    rows = {}
    for leader in leaders:
        highest = max(keys)
        exps = [math.exp((key - highest) / temperature) for key in keys]
        shares = [e / sum(exps) for e in exps]
        rows[leader] = list(enumerate(shares))
        keys = [key + math.log(max(1 - share, 1e-300)) for key, share in zip(keys, shares)]
    return [rows[leader] for leader in sorted(leaders)]


def sinkhorn_rule(scores: list[float], k: int, epsilon: float, iterations: int) -> list[list[tuple[int, float]]]:
    """Scale exp(-cost / epsilon) by Sinkhorn iterations (Xie et al. 2020, the sorted operator)."""
    m = len(scores)
    anchors = [(k - r) / k for r in range(k + 1)]
    masses = [1 / m] * k + [(m - k) / m]
    kernel = [[math.exp(-((s - a) ** 2) / epsilon) for a in anchors] for s in scores]
    u = [1.0] * m
    v = [1.0] * (k + 1)
    for _ in range(iterations):
        u = [1 / m / sum(kernel[i][r] * v[r] for r in range(k + 1)) for i in range(m)]
        v = [masses[r] / sum(kernel[i][r] * u[i] for i in range(m)) for r in range(k + 1)]
    leaders = sorted(range(m), key=lambda i: -scores[i])[:k]
    rows = {leader: [(i, m * u[i] * kernel[i][r] * v[r]) for i in range(m)] for r, leader in enumerate(leaders)}
    return [rows[leader] for leader in sorted(leaders)]


def threshold_rule(scores: list[float], k: int, link: str, epsilon: float) -> list[list[tuple[int, float]]]:
    """Multiply the k best tokens by their gates, with the threshold found by bisection so that all gates sum to k."""
    links = {
        "laplace": lambda x: 0.5 * math.exp(x) if x < 0 else 1 - 0.5 * math.exp(-x),
        "clip": lambda x: min(max(x, 0.0), 1.0),
        "exp": lambda x: math.exp(min(x, 0.0)),
        "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    }
    best = sorted(range(len(scores)), key=lambda i: -scores[i])
    low = min(scores) - 100 * epsilon
    high = max(scores) + 100 * epsilon
    if link == "sigmoid":
        low = high = (scores[best[k - 1]] + scores[best[k]]) / 2
    for _ in range(200):
        middle = (low + high) / 2
        above = sum(links[link]((s - middle) / epsilon) for s in scores) > k
        low, high = (middle, high) if above else (low, middle)
    return [[(i, links[link]((scores[i] - low) / epsilon))] for i in sorted(best[:k])]


def coordinate_descent(scores: list[float], k: int, epsilon: float, rounds: int = 20_000) -> list[float]:
    """Return CoLT5's gates exp((s + a + b_i) / epsilon), updating a and b in turn (Ainslie et al. 2023, Appendix)."""
    a = 0.0
    b = [-s for s in scores]
    for _ in range(rounds):
        a = epsilon * (math.log(k) - math.log(sum(math.exp((s + bias) / epsilon) for s, bias in zip(scores, b))))
        b = [-max(s + a, 0.0) for s in scores]
    return [math.exp((s + a + bias) / epsilon) for s, bias in zip(scores, b)]


def pool(
    embeddings: Tensor,
    scores: Tensor,
    k: int,
    rule: Callable[..., list[list[tuple[int, float]]]],
    padding_mask: Tensor | None = None,
    **options: Any,
) -> Pooled:
    """Apply a rule to each document; arguments and result are those of the fast functions.

    A document with at most k tokens passes unchanged. Slots and weights record each token's largest share.
    """
    batch, length, dim = embeddings.shape
    width = min(k, length)
    out = torch.zeros(batch, width, dim).to(embeddings)
    out_scores = torch.zeros(batch, width).to(scores)
    mask = torch.ones(batch, width, dtype=torch.bool)
    slots = torch.zeros(batch, length, dtype=torch.long)
    weights = torch.zeros_like(scores)
    for b in range(batch):
        tokens = [i for i in range(length) if padding_mask is None or not padding_mask[b, i]]
        if len(tokens) <= k:
            parts = [[(i, 1.0)] for i in range(len(tokens))]
        else:
            parts = rule([scores[b, i].item() for i in tokens], k, **options)
        for slot, shares in enumerate(parts):
            mask[b, slot] = False
            for i, share in shares:
                out[b, slot] += share * embeddings[b, tokens[i]]
                out_scores[b, slot] += share * scores[b, tokens[i]]
                if share > weights[b, tokens[i]]:
                    slots[b, tokens[i]] = slot
                    weights[b, tokens[i]] = share
    return Pooled(out, out_scores, mask if mask.any() or padding_mask is not None else None, slots, weights)


def max_windows(
    embeddings: Tensor, scores: Tensor, k: int, window: int, padding_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the maxima, (B, min(n, k), d), and the share of coordinates given by each token, (B, n)."""
    record = pool(embeddings, scores, k, window_rule, padding_mask, window=window)
    out = torch.zeros_like(record.embeddings)
    weights = torch.zeros_like(scores)
    batch, length, dim = embeddings.shape
    for b in range(batch):
        for slot in range(out.size(1)):
            tokens = [i for i in range(length) if record.weights[b, i] > 0 and record.slot_of_token[b, i] == slot]
            for c in range(dim if tokens else 0):
                best = max(tokens, key=lambda i: embeddings[b, i, c].item())
                out[b, slot, c] = embeddings[b, best, c]
                weights[b, best] += 1 / dim
    return out, weights


def column_sums(query: Tensor, key: Tensor, size: int, padding_mask: Tensor | None) -> Tensor:
    """Sum the attention received within blocks over queries and heads: (B, H, T, D) x 2 -> (B, T)."""
    batch, heads, length, dim = query.shape
    sums = torch.zeros(batch, length).to(query)
    for b in range(batch):
        for start in range(0, length, size):
            block = [
                t for t in range(start, min(start + size, length)) if padding_mask is None or not padding_mask[b, t]
            ]
            for h in range(heads):
                for t in block:
                    attention = (key[b, h, block] @ query[b, h, t] / dim**0.5).softmax(dim=0)
                    for share, other in zip(attention, block):
                        sums[b, other] += share
    return sums
