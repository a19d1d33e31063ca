"""Continuous relaxations of top-k from the literature that the paper compares with or cites (Appendix B).

Each of them computes one row of shares per slot, O(k n) numbers. Successive halving avoids this cost.
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

    Round r takes the token with the highest score m among those not taken yet. The r-th output combines this token and
    all tokens not taken before it, with weights softmax(-(score - m)^2 / temperature). One sort determines which token
    each round takes, so all k rounds are computed at once.

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), expected in [0, 1]; float16 and bfloat16 are computed in float32.
        k: number of combinations, at least 1. If n <= k, all tokens are kept.
        temperature: in squared units of score, positive. 0.5 gives the values of the paper's Figure 6; for scores in
            [0, 1] the result is then close to the mean of all tokens.
        padding_mask: (B, n) bool, True on padding, at any position; None if there is no padding.

    Returns:
        :class:`Pooled` with min(n, k) slots in the order of the document; the record is approximate; see
        :func:`~pyramidion_fairseq.functional.topk.selection.combine`. Differentiable with respect to ``embeddings``
        and ``scores``.

    Raises:
        ValueError: shapes do not match, k < 1, or temperature is not positive.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    check_positive("temperature", temperature)
    scores = at_least_float32(scores)
    if scores.size(1) <= k:
        return keep_all(embeddings, scores, padding_mask)
    scores = zero_padding(bound(scores), padding_mask)
    valid, short = candidate_mask(scores, k, padding_mask)
    # (B, k) tokens taken by the rounds, (B, n) round in which each token would be taken
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

    Keys are log(score). With ``noise``, Gumbel noise is added to them, so that the k largest keys are a sample without
    replacement with probabilities proportional to the scores. Then, k times: p = softmax(keys / temperature), keys +=
    log(1 - p). Xie and Ermon sum the p to a relaxed k-hot vector. Here, each p gives one combination. The r-th one is
    led by the token with the r-th largest key, to which it converges as the temperature goes to 0.

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), sampling weights; those below 1e-5 are raised to 1e-5.
        k: number of combinations, at least 1. If n <= k, all tokens are kept.
        temperature: in units of log score, positive.
        noise: whether to perturb the keys (training); False is deterministic (evaluation).
        padding_mask: (B, n) bool, True on padding, at any position; None if there is no padding.

    Returns:
        :class:`Pooled`, as returned by :func:`iterative_topk`.

    Raises:
        ValueError: shapes do not match, k < 1, or temperature is not positive.
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

    The m scores of a document, each of mass 1/m, are transported at squared cost to k + 1 anchors: k/k, (k-1)/k, ...,
    1/k, each of mass 1/m, and 0, of mass (m-k)/m. Column r of the plan, times m, is the relaxed one-hot vector of the
    token with the r-th highest score, and gives the r-th combination. The exact plan depends only on the order of the
    anchors. Anchors in [0, 1], the range of the scores, make epsilon mean the same for every k.

    The plan is computed by Sinkhorn iterations in the log domain. They end with an update of the columns, so every
    combination is convex after any number of iterations. Gradients pass through all iterations. Each iteration is
    recomputed in the backward pass, which therefore keeps O(n + k) numbers per iteration instead of O(n k).

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), expected in [0, 1]; float16 and bfloat16 are computed in float32.
        k: number of combinations, at least 1. If n <= k, all tokens are kept.
        epsilon: strength of the entropic regularisation, in squared units of score, positive. Smaller is sharper, but
            below 1e-2 a few hundred iterations are not enough, and the plan is far from optimal.
        iterations: number of Sinkhorn iterations, at least 1.
        padding_mask: (B, n) bool, True on padding, at any position; None if there is no padding.

    Returns:
        :class:`Pooled`, as returned by :func:`iterative_topk`.

    Raises:
        ValueError: shapes do not match, k or iterations is below 1, or epsilon is not positive.
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
    # -(s - a)^2 without the s^2, which the row potentials absorb: with large scores it would dominate the rest. (B, n,
    # k + 1)
    log_kernel = (2 * scores.masked_fill(~valid, 0).unsqueeze(2) - anchors) * anchors / epsilon
    log_rows = (-count.log()).expand_as(scores).masked_fill(~valid, float("-inf"))
    log_columns = torch.cat([(-count.log()).expand(-1, k), ((count - k) / count).log()], dim=1)
    column = torch.zeros_like(log_columns)
    for _ in range(iterations):
        row, column = checkpoint(_sinkhorn_iteration, log_kernel, column, log_rows, log_columns, use_reentrant=False)
    # The last update of the columns makes each column sum to its mass, which is a softmax.
    rows = (log_kernel[:, :, :k] + row.unsqueeze(2)).softmax(dim=1).transpose(1, 2)
    return combine(embeddings, scores, rows, order_by_score(scores, valid)[:, :k], short, padding_mask)


def _sinkhorn_iteration(
    log_kernel: Tensor, column: Tensor, log_rows: Tensor, log_columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Update the potentials of the rows, (B, n), and of the columns, (B, k + 1), with the log kernel (B, n, k + 1)."""
    row = log_rows - (log_kernel + column.unsqueeze(1)).logsumexp(dim=2)
    return row, log_columns - (log_kernel + row.unsqueeze(2)).logsumexp(dim=1)
