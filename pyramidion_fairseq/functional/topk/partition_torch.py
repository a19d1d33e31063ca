"""Sums over a partition and their gradients in torch operations: the reference for compiled code and Triton kernels.

Both are gathers: the sums gather the tokens of each slot, the gradients gather the slot of each token.
``torch.embedding_bag`` sums the gathered rows without copying them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def partition_sum_torch(embeddings: Tensor, weights: Tensor, members: Tensor, filled: Tensor | None) -> Tensor:
    """Compute :func:`~.partition.partition_sum`: (B, n, d), (B, n), (B, k, g), (B, k, g) or None -> (B, k, d)."""
    batch, length, dim = embeddings.shape
    k, group = members.shape[1:]
    if filled is not None:
        # A placeholder may point at NaN, and 0 * NaN is NaN. Replace it by another token of its slot.
        members = torch.where(filled, members, members.gather(2, filled.byte().argmax(dim=2, keepdim=True)))
    members = members.flatten(1)  # (B, k * g)
    shares = weights.gather(1, members)
    if filled is not None:
        shares = shares.masked_fill(~filled.flatten(1), 0)
    # One bag of g rows per slot, from the B * n rows of all documents.
    rows = (members + _document_offsets(batch, length, members)).flatten()
    starts = torch.arange(0, rows.numel(), group, device=rows.device)
    flat = embeddings.reshape(batch * length, dim)
    sums = _weighted_bags(flat, rows, starts, shares.to(flat.dtype).flatten()).view(batch, k, dim)
    # All members of an empty slot are placeholders.
    return sums if filled is None else sums.masked_fill_(~filled.any(dim=2, keepdim=True), 0)


def partition_sum_backward_torch(
    grad: Tensor, embeddings: Tensor, weights: Tensor, slots: Tensor, d_embeddings: bool, d_weights: bool
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of :func:`partition_sum_torch`.

    Each token belongs to one slot, so no gradients are accumulated, and both are deterministic. The gradient of a
    token is its weight times the gradient of its slot. The gradient of its weight is the dot product of the token and
    the gradient of its slot.

    Args:
        grad: (B, k, d) gradient of the sums.
        embeddings, weights, slots: see :func:`~.partition.partition_sum`.
        d_embeddings, d_weights: which gradients to compute.

    Returns:
        (B, n, d) in the dtype of ``grad`` and (B, n) in that of ``weights``; an empty tensor for a gradient that is
        not requested.
    """
    batch, length, dim = embeddings.shape
    k = grad.size(1)
    grad = grad.reshape(batch * k, dim)
    embeddings = embeddings.reshape(batch * length, dim)
    rows = (slots + _document_offsets(batch, k, slots)).flatten()  # (B * n,) slots, numbered over all documents
    tokens = torch.arange(rows.numel(), device=rows.device)
    of_embeddings = embeddings.new_empty(0)
    of_weights = weights.new_empty(0)
    if d_embeddings:
        # A token with weight 0 reads a row of zeros, since 0 * NaN would be NaN.
        shares = weights.flatten()
        padded = torch.cat([grad, grad.new_zeros(1, dim)])
        sources = torch.where(shares.eq(0), batch * k, rows)
        of_embeddings = _weighted_bags(padded, sources, tokens, shares.to(grad.dtype)).view(batch, length, dim)
    if d_weights:
        # Computed in the dtype of the weights, because a sum over d overflows float16, and without a gathered copy of
        # grad.
        of_weights = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            grad.to(weights.dtype), embeddings.to(weights.dtype), tokens, tokens, rows, 0
        ).view_as(weights)
    return of_embeddings, of_weights


def _weighted_bags(table: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Sum weighted rows of a table: (N, d), (r,) int64, (bags,) int64 start of each bag, (r,) -> (bags, d)."""
    return torch.embedding_bag(table, rows, starts, mode=0, per_sample_weights=weights)[0]


def _document_offsets(batch: int, size: int, like: Tensor) -> Tensor:
    """Return the index of each document's first row among the rows of all, ``size`` per document: (B, 1) int64."""
    return torch.arange(0, batch * size, size, device=like.device).unsqueeze(1)
