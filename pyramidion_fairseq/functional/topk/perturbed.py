"""Top-k of randomly perturbed scores, differentiable in expectation (Cordonnier et al. 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .selection import hard_topk, order_by_score, zero_padding
from .successive_halving import Pooled, at_least_float32, check_arguments, check_count, check_positive
from .tournament import bound


def perturbed_topk(
    embeddings: Tensor,
    scores: Tensor,
    k: int,
    *,
    sigma: float = 0.05,
    samples: int = 100,
    noise: bool = True,
    padding_mask: Tensor | None = None,
) -> Pooled:
    """Average the hard top-k selections of scores with Gaussian noise (Cordonnier et al. 2021; Berthet et al. 2020).

    Slot j is the mean, over the samples, of the j-th selected token in the order of the document. The gradient with
    respect to the scores is that of the expectation, by Stein's lemma: the mean of (value of a sample - mean value) *
    noise / sigma. The published code multiplies each token's noise only with the token's own entries of the selection.
    Here, the noise of each token is multiplied with the whole value, as the derivative of the expectation requires.

    Args:
        embeddings: (B, n, d), any floating dtype.
        scores: (B, n), any floating dtype; float16 and bfloat16 are computed in float32.
        k: number of representations to keep, at least 1. If n <= k, all tokens are kept.
        sigma: standard deviation of the noise, in units of score, positive.
        samples: s, number of selections to average, at least 2.
        noise: False is hard top-k, the limit for small sigma, without a gradient for the scores.
        padding_mask: (B, n) bool, True on padding, at any position; None if there is no padding.

    Returns:
        :class:`Pooled` with min(n, k) slots. With noise the record is approximate: a token's slot is the one to which
        the most samples assign it. Memory besides the result is O(s (n + k)) per document, never O(k n).

    Raises:
        ValueError: shapes do not match, k < 1, samples below 2, or sigma is not positive.
    """
    k = check_arguments(embeddings, scores, k, padding_mask)
    check_positive("sigma", sigma)
    samples = check_count("samples", samples)
    if samples < 2:
        raise ValueError("samples must be at least 2: the gradient is a difference between samples")
    if not noise or scores.size(1) <= k:
        return hard_topk(embeddings, scores, k, padding_mask=padding_mask)
    scores = zero_padding(bound(at_least_float32(scores)), padding_mask)
    embeddings = zero_padding(embeddings, padding_mask)
    drawn = torch.randn(len(scores), samples, scores.size(1), dtype=scores.dtype, device=scores.device)
    drawn = drawn if padding_mask is None else drawn.masked_fill(padding_mask.unsqueeze(1), 0)
    chosen = _selections(scores.detach(), drawn * sigma, k, padding_mask)
    values = torch.cat([at_least_float32(embeddings), scores.unsqueeze(2).to(at_least_float32(embeddings))], dim=2)
    means = _MeanSelection.apply(values, scores, chosen, drawn, sigma)
    slots, weights = _largest_shares(chosen, scores.size(1))
    return Pooled(
        means[:, :, :-1].to(embeddings.dtype),
        means[:, :, -1].to(scores.dtype),
        None if padding_mask is None else chosen[:, 0] == scores.size(1),
        slots,
        weights.to(scores.dtype),
    )


def _selections(scores: Tensor, noise: Tensor, k: int, padding_mask: Tensor | None) -> Tensor:
    """Return each sample's selection, ascending: (B, n), (B, s, n) -> (B, s, k) int64 positions, n for empty slots."""
    length = scores.size(1)
    valid = torch.ones_like(scores, dtype=torch.bool) if padding_mask is None else ~padding_mask
    chosen = []
    for perturbed in (scores.unsqueeze(1) + noise).unbind(dim=1):
        best = order_by_score(perturbed, valid)[:, :k]
        chosen.append(best.masked_fill(~valid.gather(1, best), length).sort(dim=1).values)
    return torch.stack(chosen, dim=1)


def _selected(values: Tensor, chosen: Tensor) -> Tensor:
    """Gather one sample's selection: (B, n, d), (B, k) -> (B, k, d), zeros in empty slots."""
    length = values.size(1)
    selected = values.gather(1, chosen.clamp(max=length - 1).unsqueeze(2).expand(-1, -1, values.size(2)))
    return selected.masked_fill((chosen == length).unsqueeze(2), 0)


class _MeanSelection(torch.autograd.Function):
    """Mean over samples of the selected values, with the gradient of its expectation."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scores: Tensor, chosen: Tensor, noise: Tensor, sigma: float) -> Tensor:
        ctx.save_for_backward(values, chosen, noise)
        ctx.sigma = sigma
        total = values.new_zeros(len(values), chosen.size(2), values.size(2))
        for sample in chosen.unbind(dim=1):
            total += _selected(values, sample)
        return total / chosen.size(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        values, chosen, noise = ctx.saved_tensors
        samples, length = chosen.size(1), values.size(1)
        grad = grad.masked_fill((chosen[:, 0] == length).unsqueeze(2), 0)  # empty slots may hold NaN
        of_values = torch.zeros_like(values)
        products = []
        for sample in chosen.unbind(dim=1):
            products.append((_selected(values, sample) * grad).sum(dim=(1, 2)))
            index = sample.clamp(max=length - 1).unsqueeze(2).expand_as(grad)
            of_values.scatter_add_(1, index, grad / samples)
        value = torch.stack(products, dim=1)
        value = (value - value.mean(dim=1, keepdim=True)).to(noise.dtype)
        of_scores = torch.einsum("bs,bsn->bn", value, noise) / (ctx.sigma * (samples - 1))
        return of_values, of_scores, None, None, None


def _largest_shares(chosen: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return each token's most frequent slot and its share of the samples: (B, s, k) -> (B, n) int64, (B, n) float.

    The share is relative to all samples. A token that was never selected has the slot 0 and the share 0.
    """
    batch, samples, k = chosen.shape
    numbers = torch.arange(k, device=chosen.device).expand_as(chosen)
    slots = chosen.new_full((batch, samples, length + 1), k).scatter(2, chosen, numbers)[:, :, :length]
    ordered = slots.sort(dim=1).values  # samples that did not select the token come last
    index = torch.arange(samples, device=chosen.device).view(1, -1, 1)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    run = index - torch.where(begins, index, 0).cummax(dim=1).values + 1
    counts, last = run.masked_fill(ordered == k, 0).max(dim=1)
    kept = counts > 0
    return ordered.gather(1, last.unsqueeze(1)).squeeze(1).masked_fill(~kept, 0), counts.to(torch.float32) / samples
