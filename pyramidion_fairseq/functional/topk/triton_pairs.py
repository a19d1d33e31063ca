"""Merging of candidate pairs, shared by the Triton kernels of the tournament and of its gradient."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from .tournament_torch import highest_score


@triton.jit
def _strength(score, log_base, highest, IS_PEAKED: tl.constexpr):
    """Return the logits of the softmax over a pair: base**score, or the score itself."""
    if IS_PEAKED:
        score = tl.exp(tl.where(score > highest, highest, score) * log_base)  # tl.minimum would drop NaN
    return score


@triton.jit
def merge_pair(left, right, log_base, highest, IS_PEAKED: tl.constexpr):
    """Merge pairs of candidates.

    Args:
        left, right: scores, -inf for empty candidates. If the left one is empty, so is the right one.
        log_base, highest: see :func:`softmax_constants`.

    Returns:
        The weight of the left candidate, the score of the pair, and the strengths of left and right.
    """
    is_bye = right == -float("inf")
    finite_left = tl.where(left == -float("inf"), 0.0, left)
    finite_right = tl.where(is_bye, 0.0, right)
    strength_left = _strength(finite_left, log_base, highest, IS_PEAKED)
    strength_right = _strength(finite_right, log_base, highest, IS_PEAKED)
    weight = tl.where(is_bye, 1.0, 1 / (1 + tl.exp(strength_right - strength_left)))
    # Interpolate from the nearer end, like torch.lerp.
    difference = finite_left - finite_right
    mixed = tl.where(weight < 0.5, finite_right + weight * difference, finite_left - difference * (1 - weight))
    return weight, tl.where(is_bye, left, mixed), strength_left, strength_right


@triton.jit
def load_pair(ordered_ptr, size, pair, mask):
    """Load the scores of pairs of a round: of the candidates ``pair`` and ``size - 1 - pair``."""
    left = tl.load(ordered_ptr + pair, mask=mask, other=0.0)
    right = tl.load(ordered_ptr + size - 1 - pair, mask=mask, other=0.0)
    return left, right


def softmax_constants(base: float | None) -> tuple[float, float]:
    """Return log(base) and the score above which base**score would overflow; zeros for the plain softmax (None)."""
    if base is None:
        return 0.0, 0.0
    return math.log(base), highest_score(base, torch.float32)
