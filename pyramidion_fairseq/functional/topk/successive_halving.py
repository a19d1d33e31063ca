"""The Successive Halving Top-k operator (paper, section 4 and Algorithm 1 in Appendix B.1)."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

import torch
from torch import Tensor

from .derivatives import refuse_tracing
from .partition import partition_sum
from .tournament import tournament

logger = logging.getLogger(__name__)

#: Tolerance for scores outside [0, 1] before a warning is logged. The published scorers add 1e-5 to their sigmoid.
SLACK = 0.01
_seen_scores = False


class Pooled(NamedTuple):
    """Output of a pooler for a batch of documents with n tokens each."""

    embeddings: Tensor
    """(B, k, d) the pooled representations."""
    scores: Tensor
    """(B, k) scores of the pooled representations, at least float32."""
    padding_mask: Tensor | None
    """(B, k) bool, True on empty slots; None if no slot of any document is empty."""
    slot_of_token: Tensor
    """(B, n) int64, the slot of each input token (0 for padding, with weight 0). Formerly ``slots``."""
    weights: Tensor
    """(B, n) weight of each input token in its slot, at least float32. The weights of a slot sum to one.

    For poolers without an exact record (``Pooler.exact_record``), each token's largest share."""

    @property
    def slots(self) -> Tensor:
        """Return :attr:`slot_of_token`, which was formerly called ``slots``."""
        return self.slot_of_token


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
    """Select k of n representations by a differentiable tournament.

    In each round the m candidates are sorted by score, and candidate i is paired with candidate m + 1 - i. Each pair
    becomes one candidate: the mean of both vectors, weighted by softmax(base**score), with the equally weighted mean
    of their scores. This halves m until k candidates are left. The tournament reads only the scores. Each token ends
    in exactly one slot with one known weight, and each representation is read once.

    If n / k is not a power of two, the bracket is filled up with byes, which go to the highest scores. A document with
    at most k tokens (padding not counted) passes unchanged. Padding never contributes and never changes a result.

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), expected in [0, 1], such as ``logits.sigmoid()``; float16 and bfloat16 are computed in float32.
            With raw logits, the peaked softmax selects only one token of each pair. The first CPU scores of a process
            are checked, outside of ``torch.compile``, and a warning is logged if they look like logits.
        k: number of representations to keep, at least 1. If n <= k, all tokens are kept.
        base: base of the peaked softmax, softmax(base**score); None for the plain softmax(score) of Eq. 6.
        sort: whether to sort before every round; False pairs by position (the ablation of Appendix B.5).
        preserve_order: whether to order the slots by the positions of their winners (section 3.1). False leaves them
            in the order of their scores, as in Algorithm 1. Without ``sort``, the winner of a pair is its earlier
            token, and both orders are the same.
        padding_mask: (B, n) bool, True on padding, at any position; None if there is no padding.

    Returns:
        :class:`Pooled` with min(n, k) slots. Differentiable once with respect to ``embeddings`` and ``scores``.

    Raises:
        ValueError: shapes do not match, k < 1, or base is not above 1 or not finite.
        RuntimeError: ``torch.jit.trace`` is active, a forward-mode derivative is requested, or, in the backward pass,
            a second derivative.
    """
    refuse_tracing()
    k = check_arguments(embeddings, scores, k, padding_mask)
    if base is not None and not 1 < base < math.inf:  # below 1, low scores would win
        raise ValueError(f"base must be above 1 and finite, or None for the plain softmax, got {base}")
    if base is not None:
        _warn_of_logits(scores, padding_mask, base)
    scores = at_least_float32(scores)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)

    slot_scores, slots, weights, members, filled = tournament(scores, padding_mask, k, base, sort, preserve_order)
    return Pooled(
        partition_sum(embeddings, weights, slots, members, filled),
        slot_scores,
        None if padding_mask is None or filled is None else ~filled[:, :, 0],
        slots,
        weights,
    )


def _warn_of_logits(scores: Tensor, padding_mask: Tensor | None, base: float) -> None:
    """Log a warning if scores look like raw logits, once per process, without synchronising with a device."""
    global _seen_scores
    if torch.compiler.is_compiling() or _seen_scores or type(scores) is not Tensor or scores.device.type != "cpu":
        return
    if torch._C._are_functorch_transforms_active():  # a tensor under vmap has no values to inspect
        return
    _seen_scores = True
    kept = scores.detach() if padding_mask is None else scores.detach()[~padding_mask]
    if kept.numel() and (kept.min() < -SLACK or kept.max() > 1 + SLACK):
        logger.warning(
            f"scores from {kept.min():.3g} to {kept.max():.3g} are outside [0, 1], for which softmax({base:g}**score) "
            "is meant: give logits.sigmoid(), or base=None for the plain softmax"
        )


def keep_all(embeddings: Tensor, scores: Tensor, padding_mask: Tensor | None) -> Pooled:
    """Keep every token in its own slot: (B, n, d), (B, n), (B, n) or None -> :class:`Pooled` with n slots."""
    scores = at_least_float32(scores)
    batch, length = scores.shape
    slots = torch.arange(length, device=scores.device).expand(batch, length)
    weights = torch.ones_like(scores.detach())
    if padding_mask is not None:
        slots = slots.masked_fill(padding_mask, 0)
        weights = weights.masked_fill(padding_mask, 0)
    return Pooled(embeddings, scores, padding_mask, slots, weights)


def at_least_float32(scores: Tensor) -> Tensor:
    """Convert float16 and bfloat16 to float32, and leave other dtypes unchanged."""
    return scores if scores.dtype == torch.float64 else scores.float()


def check_arguments(embeddings: Tensor, scores: Tensor, k: float, padding_mask: Tensor | None) -> int:
    """Check the arguments shared by all selections, and return k as an int (2 for 2.0).

    Raises:
        ValueError: shapes or dtypes do not match, or k is not a whole number of at least 1.
    """
    if embeddings.dim() != 3 or scores.shape != embeddings.shape[:2]:
        raise ValueError(
            f"embeddings must be (B, n, d) and scores (B, n), got {tuple(embeddings.shape)} and {tuple(scores.shape)}"
        )
    if padding_mask is not None and (padding_mask.shape != scores.shape or padding_mask.dtype != torch.bool):
        raise ValueError(
            f"padding_mask must be bool of shape {tuple(scores.shape)}, "
            f"got {padding_mask.dtype} of shape {tuple(padding_mask.shape)}"
        )
    for name, tensor in (("embeddings", embeddings), ("scores", scores)):
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {tensor.dtype}")
    return check_count("k", k)


def check_count(name: str, value: float) -> int:
    """Return an argument as an int. Raises ValueError unless it is a whole number of at least 1."""
    if not (1 <= value < math.inf and value == int(value)):  # also where it is NaN
        raise ValueError(f"{name} must be a whole number, at least 1, got {value}")
    return int(value)


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless an argument is positive and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
