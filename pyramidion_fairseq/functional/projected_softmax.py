"""Log probabilities of the targets, computed without materialising the logits of all tokens."""

from __future__ import annotations

from typing import Any, Iterator

import torch
from torch import Tensor

#: Number of logits held at a time: 16 MB in float32.
CHUNK_LOGITS = 1 << 22


def target_log_softmax(x: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log probability of each row's target, and the sum of the log probabilities of the whole vocabulary.

    Rows are projected in chunks, and projected again in the backward pass. Memory is O(V) per row of a chunk instead
    of O(N V).

    Args:
        x: (N, C) floating.
        weight: (V, C) weight of the projection to the vocabulary.
        targets: (N,) int64.

    Returns:
        (N,) log softmax(x W^T) at the targets and (N,) its sum over the vocabulary, both at least float32. Under
        autocast the matrix products use the autocast dtype. Differentiable once with respect to ``x`` and ``weight``.
    """
    kind = x.device.type
    dtype = torch.promote_types(x.dtype, weight.dtype)
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    with torch.autocast(kind, enabled=False):
        return _TargetLogSoftmax.apply(x.to(dtype), weight.to(dtype), targets)


class _TargetLogSoftmax(torch.autograd.Function):
    """Project and normalise rows in chunks, in the forward pass and again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        at_target = []
        totals = []
        normalisers = []
        for rows, wanted in _chunks(x, weight, targets):
            logits = _logits(rows, weight)
            normaliser = logits.logsumexp(dim=1)
            at_target.append(logits.gather(1, wanted.unsqueeze(1)).squeeze(1) - normaliser)
            totals.append(logits.sum(dim=1) - weight.size(0) * normaliser)
            normalisers.append(normaliser)
        ctx.save_for_backward(x, weight, targets, torch.cat(normalisers))
        return torch.cat(at_target), torch.cat(totals)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, at_target: Tensor, total: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, targets, normalisers = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        grad_weight = torch.zeros_like(weight, dtype=normalisers.dtype)
        start = 0
        for rows, wanted in _chunks(x, weight, targets):
            part = slice(start, start + len(rows))
            d_target = at_target[part].unsqueeze(1)
            d_total = total[part].unsqueeze(1)
            grad = _logits(rows, weight).sub_(normalisers[part].unsqueeze(1)).exp_()
            # (r, V) gradient of the logits, from their softmax
            grad.mul_(-(d_target + weight.size(0) * d_total)).add_(d_total)
            grad.scatter_add_(1, wanted.unsqueeze(1), d_target)
            grad = grad.to(x.dtype)
            torch.mm(grad, weight, out=grad_x[part])
            grad_weight += grad.T @ rows
            start = part.stop
        return grad_x, grad_weight.to(weight.dtype), None


def _chunks(x: Tensor, weight: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Return chunks of rows with their targets: (r, C) and (r,)."""
    rows = max(1, CHUNK_LOGITS // weight.size(0))
    return zip(x.split(rows), targets.split(rows))


def _logits(rows: Tensor, weight: Tensor) -> Tensor:
    """Project rows to logits of at least float32: (r, C), (V, C) -> (r, V)."""
    logits = rows @ weight.T
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
