"""What the kernels of the tournament and of its gradient share: merging a pair of candidates."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from .tournament_torch import highest_score


@triton.jit
def _strength(score, log_base, highest, PEAKED: tl.constexpr):
    """Return what the softmax over a pair is taken of: base**score, or the score itself."""
    if PEAKED:
        score = tl.exp(tl.where(score > highest, highest, score) * log_base)  # a minimum would drop NaN
    return score


@triton.jit
def merge_pair(left, right, log_base, highest, PEAKED: tl.constexpr):
    """Merge a pair of candidates: the weight of the first, the score of both, and their strengths."""
    alone = right == -float("inf")
    other = tl.where(alone, 0.0, right)
    mine = tl.where(left == -float("inf"), 0.0, left)
    strong, weak = _strength(mine, log_base, highest, PEAKED), _strength(other, log_base, highest, PEAKED)
    weight = tl.where(alone, 1.0, 1 / (1 + tl.exp(weak - strong)))
    mixed = tl.where(weight < 0.5, other + weight * (mine - other), mine - (mine - other) * (1 - weight))
    return weight, tl.where(alone, left, mixed), strong, weak


@triton.jit
def load_pair(ordered, size, i, inside):
    """Load the scores of the candidates number i and ``size - 1 - i`` of a round."""
    left = tl.load(ordered + i, mask=inside, other=0.0)
    return left, tl.load(ordered + size - 1 - i, mask=inside, other=0.0)


def softmax_constants(base: float) -> tuple[float, float]:
    """Return log(base), and the score above which base**score would overflow."""
    if base == 0:
        return 0.0, 0.0
    return math.log(base), highest_score(base, torch.float32)
