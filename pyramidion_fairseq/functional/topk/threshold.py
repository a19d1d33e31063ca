"""Top-k by a threshold: every score has a gate, and the gates of a document sum to k.

A link maps the distance of a score from the threshold to its gate. Each link is an operator of the literature:

* ``laplace``: the distribution function of Laplace noise (Struski et al. 2025, "LapSum");
* ``clip``: min(max(x, 0), 1) (Lou et al. 2024, "SparseK"; Sander et al. 2023 with p = 2);
* ``exp``: min(1, exp(x)) (Ainslie et al. 2023, "CoLT5", who compute it by coordinate descent);
* ``sigmoid``: the threshold lies halfway between the k-th and the next score, and the gates need not sum to k (Zhu et
  al. 2025, "DFTopK").

The thresholds of the first three have a closed form between two neighbouring breakpoints. They take O(n log n) and no
iterations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .derivatives import differentiable_once, refuse_forward_mode
from .selection import candidate_mask, clamp_huge, hard_topk, order_by_score, zero_padding
from .successive_halving import Pooled, at_least_float32, check_arguments, check_positive, keep_all

LINKS = ("laplace", "clip", "exp", "sigmoid")


def threshold_topk(
    embeddings: Tensor,
    scores: Tensor,
    k: int,
    *,
    link: str = "laplace",
    epsilon: float = 0.1,
    padding_mask: Tensor | None = None,
) -> Pooled:
    """Keep the k representations with the highest scores, each scaled by its gate ``link((score - tau) / epsilon)``.

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), any floating dtype; float16 and bfloat16 are computed in float32. Ties go to the earlier token.
        k: number of representations to keep, at least 1. If n <= k, all tokens are kept with gates of 1.
        link: one of :data:`LINKS`.
        epsilon: width of the link, in units of score, positive. Smaller is sharper.
        padding_mask: (B, n) bool, True on padding, at any position; None if there is no padding.

    Returns:
        :class:`Pooled` with min(n, k) slots in the order of the document; weights are the gates of the tokens kept,
        and 0 for the others. Differentiable once with respect to ``embeddings`` and ``scores``. The gradient reaches
        the scores of all tokens through the threshold.

    Raises:
        ValueError: shapes do not match, k < 1, epsilon is not positive, or the link is unknown.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    check_positive("epsilon", epsilon)
    if link not in LINKS:
        raise ValueError(f"link must be one of {', '.join(LINKS)}, got {link!r}")
    refuse_forward_mode(scores)
    scores = at_least_float32(scores)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)
    scores = zero_padding(scores, padding_mask)
    valid, short = candidate_mask(scores, k, padding_mask)
    scores = clamp_huge(scores, valid, margin=100 * epsilon)  # where every link is 0 or 1
    gates = threshold_gates(scores, k, valid, link, epsilon).masked_fill(short, 1)
    # Hard top-k of the gated tokens: the record's weights of 1 become the gates.
    kept = hard_topk(embeddings, scores.detach(), k, padding_mask=padding_mask)
    weights = kept.weights * gates
    slot_gates = torch.zeros_like(kept.scores).scatter_add(1, kept.slot_of_token, weights)
    slot_scores = torch.zeros_like(kept.scores).scatter_add(1, kept.slot_of_token, weights * scores)
    gated = kept.embeddings * slot_gates.unsqueeze(2).to(embeddings.dtype)
    return Pooled(gated, slot_scores, kept.padding_mask, kept.slot_of_token, weights)


def threshold_gates(scores: Tensor, k: int, valid: Tensor, link: str, epsilon: float) -> Tensor:
    """Return the gate of each score, with the gradient of the threshold.

    The threshold tau solves sum_i link((s_i - tau) / epsilon) = k. By the implicit function theorem, its gradient is
    the slope of each link divided by their sum.

    Args:
        scores: (B, n) float32 or float64.
        k: sum of the gates, less than the number of valid scores of each row.
        valid: (B, n) bool, True on scores that take part; the gates of the others are 0.
        link, epsilon: see :func:`threshold_topk`.

    Returns:
        (B, n) in [0, 1].
    """
    if link == "sigmoid":
        best = order_by_score(scores, valid)[:, k - 1 : k + 1]
        threshold = scores.gather(1, best).mean(dim=1, keepdim=True)
        return torch.sigmoid((scores - threshold) / epsilon) * valid
    with torch.no_grad():
        # Distances from the highest score, whose exponentials cannot overflow.
        highest = scores.masked_fill(~valid, -torch.inf).amax(dim=1, keepdim=True)
        distances = ((scores - highest) / epsilon).masked_fill(~valid, -torch.inf)
        threshold = _THRESHOLDS[link](distances.sort(dim=1, descending=True).values, k)
    shifted = (scores - highest) / epsilon
    slopes = _slope(shifted.detach() - threshold, link).masked_fill(~valid, 0)
    shares = slopes / slopes.sum(dim=1, keepdim=True).clamp(min=torch.finfo(slopes.dtype).tiny)
    change = differentiable_once(shifted) - shifted.detach()  # the shares depend on the scores, too
    threshold = threshold + (shares * change).sum(dim=1, keepdim=True)
    return _link(shifted - threshold, link).masked_fill(~valid, 0)


def _link(x: Tensor, link: str) -> Tensor:
    """Return the gates at distances ``x`` from the threshold."""
    if link == "laplace":
        tail = 0.5 * torch.exp(-x.abs())
        return torch.where(x < 0, tail, 1 - tail)
    return x.clamp(0, 1) if link == "clip" else torch.exp(x.clamp(max=0))


def _slope(x: Tensor, link: str) -> Tensor:
    """Return the derivatives of :func:`_link`."""
    if link == "laplace":
        return 0.5 * torch.exp(-x.abs())
    return ((x > 0) & (x < 1)).to(x.dtype) if link == "clip" else torch.exp(x.clamp(max=0)) * (x < 0)


def _laplace_threshold(x: Tensor, k: int) -> Tensor:
    """Return the threshold of each row: (B, n) descending, at most 0, -inf if there is no score -> (B, 1).

    With j scores above tau and u = exp(tau), the gates sum to j - u/2 sum_above exp(-x) + 1/(2u) sum_below exp(x) = k,
    which is quadratic in u.
    """
    # (B, n) logs of sums: of exp(-x) over the first scores up to x_i, and of exp(x) over those after x_i.
    logs_above = torch.logcumsumexp(-x.masked_fill(x == -torch.inf, torch.inf), dim=1)
    logs_below = _log_sums_after(x)
    counts = torch.arange(1, x.size(1) + 1, device=x.device, dtype=x.dtype)
    # (B, n) sum of the gates if tau were x_i, with x_i counted among the scores above.
    gate_sums = counts - 0.5 * torch.exp(x + logs_above) + 0.5 * torch.exp(logs_below - x)
    num_above = ((gate_sums < k) & (x > -torch.inf)).sum(dim=1, keepdim=True)  # (B, 1), j
    log_above = torch.where(num_above > 0, logs_above.gather(1, (num_above - 1).clamp(min=0)), -torch.inf)
    log_below = _log_sum_after_first(x, logs_below, num_above)
    # a u^2 + b u - c = 0 with a = sum_above, b = 2 (k - j), c = sum_below. Take the positive root, in the form without
    # cancellation.
    half_b = (k - num_above).to(x.dtype)
    log_product = log_above + log_below
    root = torch.sqrt(half_b.square() + torch.exp(log_product))
    from_below = log_below - torch.log((half_b + root).clamp(min=torch.finfo(x.dtype).tiny))
    from_above = torch.log((root - half_b).clamp(min=torch.finfo(x.dtype).tiny)) - log_above
    return torch.where(half_b >= 0, from_below, from_above)


def _exp_threshold(x: Tensor, k: int) -> Tensor:
    """Return the threshold of each row, see :func:`_laplace_threshold`: exp(tau) = sum_below exp(x) / (k - j)."""
    logs_below = _log_sums_after(x)
    counts = torch.arange(1, x.size(1) + 1, device=x.device, dtype=x.dtype)
    gate_sums = counts + torch.exp(logs_below - x)  # (B, n), if tau were x_i
    num_above = ((gate_sums < k) & (x > -torch.inf)).sum(dim=1, keepdim=True)  # (B, 1), j
    return _log_sum_after_first(x, logs_below, num_above) - torch.log((k - num_above).clamp(min=1).to(x.dtype))


def _clip_threshold(x: Tensor, k: int) -> Tensor:
    """Return the threshold of each row, see :func:`_laplace_threshold`.

    The sum of the gates is piecewise linear in tau. Its breakpoints are where a score reaches the gate 0 or 1.
    """
    # (B, 2 n) breakpoints, descending, so that the sum of the gates grows along them.
    breakpoints = torch.cat([x, x - 1], dim=1).sort(dim=1, descending=True).values
    is_empty = breakpoints == -torch.inf
    # (B, n + 1) sum of the first i scores.
    sums = torch.cat([torch.zeros_like(x[:, :1]), x.masked_fill(x == -torch.inf, 0).cumsum(dim=1)], dim=1)
    # (B, 2 n) numbers of gates above 0 and of gates of 1 at each breakpoint. Negated, because searchsorted needs
    # ascending rows.
    ascending = (-x).contiguous()
    num_over_zero = torch.searchsorted(ascending, -breakpoints.contiguous())  # x > tau
    num_ones = torch.searchsorted(ascending, -(breakpoints + 1).contiguous(), right=True)  # x >= tau + 1
    # (B, 2 n) sum of the gates at each breakpoint: those of 1, and x - tau of those between 0 and 1.
    sum_between = sums.gather(1, num_over_zero) - sums.gather(1, num_ones)
    sum_between = sum_between - (num_over_zero - num_ones) * breakpoints.masked_fill(is_empty, 0)
    gate_sums = (num_ones + sum_between).masked_fill(is_empty, torch.inf)
    # (B, 1) threshold, interpolated between the breakpoints left and right of it.
    right = (gate_sums < k).sum(dim=1, keepdim=True)  # index of the first breakpoint at which the sum is k or more
    right = right.clamp(max=breakpoints.size(1) - 1)  # rounding beside a huge score may leave all sums below k
    left = (right - 1).clamp(min=0)
    left_sum = gate_sums.gather(1, left)
    right_sum = gate_sums.gather(1, right)
    left_point = breakpoints.gather(1, left)
    right_point = breakpoints.gather(1, right)
    step = (right_point - left_point).masked_fill(~torch.isfinite(right_sum), 0)
    inside = left_point + step * _ratio_or_zero(k - left_sum, right_sum - left_sum)
    # If k scores stand out, the sum is k in a whole interval. Its middle is away from the kinks of the link.
    last = (gate_sums <= k).sum(dim=1, keepdim=True) - 1  # index of the last breakpoint at which the sum is k or less
    middle = (right_point + breakpoints.gather(1, last.clamp(min=0))) / 2
    return torch.where(last > right, middle, inside)


def _ratio_or_zero(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide, with 0 instead of NaN and infinity: for 0 / 0, x / 0 and infinity / infinity."""
    return (numerator / denominator).nan_to_num(0, 0, 0)


def _log_sum_after_first(x: Tensor, logs_after: Tensor, count: Tensor) -> Tensor:
    """Return the log of the sum of exp of all numbers but the first ``count``.

    Args:
        x: (B, n).
        logs_after: (B, n), :func:`_log_sums_after` of x.
        count: (B, 1) int64.

    Returns:
        (B, 1).
    """
    after_first = logs_after.gather(1, (count - 1).clamp(min=0))
    return torch.where(count > 0, after_first, torch.logsumexp(x, dim=1, keepdim=True))


def _log_sums_after(x: Tensor) -> Tensor:
    """Return the log of the sum of exp of all later numbers of each row: (B, n) -> (B, n), -inf at the end."""
    later = torch.logcumsumexp(x.flip(1), dim=1).flip(1)[:, 1:]
    return torch.cat([later, torch.full_like(x[:, :1], -torch.inf)], dim=1)


_THRESHOLDS = {"laplace": _laplace_threshold, "clip": _clip_threshold, "exp": _exp_threshold}
