"""Continuous relaxations of top-k from the literature that the paper compares with or cites (Appendix B).

All of them give a row of shares per slot, O(k n) numbers: that cost is what successive halving avoids.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .selection import candidate_mask, clamp_huge, combine, order_by_score, zero_padding
from .successive_halving import (
    Pooled,
    at_least_float32,
    check_arguments,
    check_count,
    check_positive,
    keep_all,
)
from .tournament import bound


def iterative_topk(
    embeddings: Tensor, scores: Tensor, k: int, *, temperature: float = 1e-3, padding_mask: Tensor | None = None
) -> Pooled:
    """Combine tokens by the iterative relaxation of Goyal et al. 2018 (Algorithm 2), the baseline of Appendix B.5.

    In round r the token with the highest score m among those not taken yet is taken, and the r-th output is the
    combination of it and all tokens not taken before it, with weights softmax(-(score - m)^2 / temperature). Which
    token is taken is known after one sort, so the k rounds are computed at once.

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), meant to lie in [0, 1]; float16 and bfloat16 are computed in float32.
        k: number of combinations, at least 1. With n <= k everything is kept.
        temperature: in squared units of score, positive. 0.5, which gives the values of the paper's Figure 6, is
            nearly a mean of all tokens where scores lie in [0, 1].
        padding_mask: (B, n) bool, True on padding, which may stand anywhere; None where there is none.

    Returns:
        :class:`Pooled` with min(n, k) slots in the order of the document; the record is approximate, see
        :func:`~pyramidion_fairseq.functional.topk.selection.combine`. Differentiable in ``embeddings`` and ``scores``.

    Raises:
        ValueError: shapes do not fit, k is below 1, or temperature is not positive.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    check_positive("temperature", temperature)
    scores = at_least_float32(scores)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)
    scores = zero_padding(bound(scores), padding_mask)
    valid, short = candidate_mask(scores, k, padding_mask)
    # (B, k) tokens that the rounds take, (B, n) round in which each token would be taken
    order = order_by_score(scores, valid)
    leaders = order[:, :k]
    rank = order.argsort(dim=1)
    # (B, k, n)
    distances = (scores.unsqueeze(1) - scores.gather(1, leaders).unsqueeze(2)).square()
    chosen_before = rank.unsqueeze(1) < torch.arange(k, device=rank.device).view(1, k, 1)
    logits = (distances / -temperature).masked_fill(chosen_before | ~valid.unsqueeze(1), float("-inf"))
    return combine(embeddings, scores, logits.softmax(dim=2), leaders, short, padding_mask)


def gumbel_topk(
    embeddings: Tensor,
    scores: Tensor,
    k: int,
    *,
    temperature: float = 0.1,
    noise: bool = False,
    padding_mask: Tensor | None = None,
) -> Pooled:
    """Combine tokens by relaxed sampling without replacement (Xie and Ermon 2019, Algorithm 1; Plötz and Roth 2018).

    Keys are log(score), plus Gumbel noise where asked for, which makes the k largest keys a sample without
    replacement in proportion to the scores. Then k times: p = softmax(keys / temperature), keys += log(1 - p). The
    paper sums the p to a relaxed k-hot vector; here each p makes one combination, led by the token with the r-th
    largest key, to which it converges as the temperature falls.

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), weights of the sample; negative ones count as the smallest positive, 1e-5.
        k: number of combinations, at least 1. With n <= k everything is kept.
        temperature: in units of log score, positive.
        noise: perturb the keys (training); False is deterministic (evaluation).
        padding_mask: (B, n) bool, True on padding, which may stand anywhere; None where there is none.

    Returns:
        :class:`Pooled`, as :func:`iterative_topk`.

    Raises:
        ValueError: shapes do not fit, k is below 1, or temperature is not positive.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    check_positive("temperature", temperature)
    scores = at_least_float32(scores)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)
    scores = zero_padding(bound(scores), padding_mask)
    valid, short = candidate_mask(scores, k, padding_mask)
    tiny = torch.finfo(scores.dtype).tiny
    keys = scores.clamp(min=1e-5).log()
    if noise:
        keys = keys - torch.empty_like(keys).exponential_().clamp(min=tiny).log()
    leaders = order_by_score(keys, valid)[:, :k]
    keys = keys.masked_fill(~valid, float("-inf"))
    rows = []
    for _ in range(k):
        rows.append((keys / temperature).softmax(dim=1))
        keys = keys + (1 - rows[-1]).clamp(min=tiny).log()
    return combine(embeddings, scores, torch.stack(rows, dim=1), leaders, short, padding_mask)


def sinkhorn_topk(
    embeddings: Tensor,
    scores: Tensor,
    k: int,
    *,
    epsilon: float = 1e-2,
    iterations: int = 200,
    padding_mask: Tensor | None = None,
) -> Pooled:
    """Combine tokens by the sorted SOFT top-k operator, an entropic optimal transport (Xie et al. 2020, section 3).

    The m scores of a document, each of mass 1/m, are transported to k + 1 anchors at k/k, (k-1)/k, ..., 1/k and 0 of
    mass 1/m each and (m-k)/m, at squared cost. Column r of the plan times m is the relaxed one-hot vector of the token
    with the r-th highest score, and makes the r-th combination. The order of the anchors is all that matters to the
    exact plan; in [0, 1], where scores lie, they keep epsilon's meaning for every k.

    The plan comes from Sinkhorn iterations in the log domain which end with the columns, so that every combination is
    convex after any number of them. Gradients go through all iterations; each is recomputed in the backward pass,
    which keeps O(n + k) numbers of it instead of O(n k).

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), meant to lie in [0, 1]; float16 and bfloat16 are computed in float32.
        k: number of combinations, at least 1. With n <= k everything is kept.
        epsilon: strength of the entropy, in squared units of score, positive. Smaller is sharper, but below 1e-2 some
            hundred iterations are not enough and the plan is far from the optimal one.
        iterations: of Sinkhorn's algorithm, at least 1.
        padding_mask: (B, n) bool, True on padding, which may stand anywhere; None where there is none.

    Returns:
        :class:`Pooled`, as :func:`iterative_topk`.

    Raises:
        ValueError: shapes do not fit, k or iterations is below 1, or epsilon is not positive.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    check_positive("epsilon", epsilon)
    iterations = check_count("iterations", iterations)
    scores = at_least_float32(scores)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)
    scores = zero_padding(scores, padding_mask)
    valid, short = candidate_mask(scores, k, padding_mask)
    scores = clamp_huge(scores, valid, margin=1.0)
    count = valid.sum(dim=1, keepdim=True).to(scores.dtype)
    anchors = torch.arange(k, -1, -1, device=scores.device, dtype=scores.dtype) / k
    # -(s - a)^2 without its s^2, which the rows' potentials absorb: large scores would drown the rest.
    # (B, n, k + 1)
    log_kernel = (2 * scores.masked_fill(~valid, 0).unsqueeze(2) - anchors) * anchors / epsilon
    log_rows = (-count.log()).expand_as(scores).masked_fill(~valid, float("-inf"))
    log_columns = torch.cat([(-count.log()).expand(-1, k), ((count - k) / count).log()], dim=1)
    column = torch.zeros_like(log_columns)
    for _ in range(iterations):
        row, column = checkpoint(_sinkhorn_iteration, log_kernel, column, log_rows, log_columns, use_reentrant=False)
    # The last update of the columns makes each of them sum to its mass: that is a softmax.
    rows = (log_kernel[:, :, :k] + row.unsqueeze(2)).softmax(dim=1).transpose(1, 2)
    return combine(embeddings, scores, rows, order_by_score(scores, valid)[:, :k], short, padding_mask)


def _sinkhorn_iteration(
    log_kernel: Tensor, column: Tensor, log_rows: Tensor, log_columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Update the potentials of the rows, (B, n), and of the columns, (B, k + 1), by the kernel (B, n, k + 1)."""
    row = log_rows - (log_kernel + column.unsqueeze(1)).logsumexp(dim=2)
    return row, log_columns - (log_kernel + row.unsqueeze(2)).logsumexp(dim=1)
