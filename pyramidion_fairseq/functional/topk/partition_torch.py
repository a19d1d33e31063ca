"""Sums over a partition and their gradients in operations of torch.

They are the reference of the compiled code and the kernels. Both are gathers, of a slot's tokens and of a token's
slot. ``torch.embedding_bag`` sums the gathered rows without a copy of them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def partition_sum_torch(embeddings: Tensor, weights: Tensor, members: Tensor, filled: Tensor | None) -> Tensor:
    """Compute :func:`~.partition.partition_sum`: (B, n, d), (B, n), (B, k, g), (B, k, g) or None -> (B, k, d)."""
    batch, length, dim = embeddings.shape
    k, group = members.shape[1:]
    if filled is not None:
        # A placeholder may point at NaN, and 0 * NaN is NaN: another token of its slot stands in for it.
        members = torch.where(filled, members, members.gather(2, filled.byte().argmax(dim=2, keepdim=True)))
    members = members.flatten(1)  # (B, k * g)
    shares = weights.gather(1, members)
    if filled is not None:
        shares = shares.masked_fill(~filled.flatten(1), 0)
    # One bag of g rows for each slot, of the B * n rows of all documents.
    rows = (members + _first_rows(batch, length, members)).flatten()
    starts = torch.arange(0, rows.numel(), group, device=rows.device)
    flat = embeddings.reshape(batch * length, dim)
    sums = _weighted_bags(flat, rows, starts, shares.to(flat.dtype).flatten()).view(batch, k, dim)
    # Where a slot is empty, all of them are placeholders.
    return sums if filled is None else sums.masked_fill_(~filled.any(dim=2, keepdim=True), 0)


def partition_sum_backward_torch(
    grad: Tensor, embeddings: Tensor, weights: Tensor, slots: Tensor, d_embeddings: bool, d_weights: bool
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of :func:`partition_sum_torch`.

    Every token belongs to one slot, so that no gradient is added to another one, and both are deterministic. The
    gradient of a token is its weight times its slot's; that of its weight is the dot product of token and slot's.

    Args:
        grad: (B, k, d), of the sums.
        embeddings, weights, slots: as of :func:`~.partition.partition_sum`.
        d_embeddings, d_weights: which gradients are wanted.

    Returns:
        (B, n, d) in the dtype of ``grad`` and (B, n) in that of ``weights``; an empty tensor for what is not wanted.
    """
    batch, length, dim = embeddings.shape
    k = grad.size(1)
    grad = grad.reshape(batch * k, dim)
    embeddings = embeddings.reshape(batch * length, dim)
    rows = (slots + _first_rows(batch, k, slots)).flatten()  # (B * n,) the slot of each token among those of all
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
        # In the weights' precision, as a sum over d overflows float16; and without a gathered copy of grad.
        of_weights = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            grad.to(weights.dtype), embeddings.to(weights.dtype), tokens, tokens, rows, 0
        ).view_as(weights)
    return of_embeddings, of_weights


def _weighted_bags(table: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Sum weighted rows of a table: (N, d), (r,) int64, (bags,) int64 first of each bag, (r,) -> (bags, d)."""
    return torch.embedding_bag(table, rows, starts, mode=0, per_sample_weights=weights)[0]


def _first_rows(batch: int, size: int, like: Tensor) -> Tensor:
    """Return where each document starts among the rows of all, ``size`` rows a document: (B, 1) int64."""
    return torch.arange(0, batch * size, size, device=like.device).unsqueeze(1)
