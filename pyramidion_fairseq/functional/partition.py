"""Weighted sums over the parts of a partition: what every pooling does to representations, in one read of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _PartitionSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, embeddings, weights, slots, members, filled):
        batch, length, dim = embeddings.shape
        k, group = members.shape[1:]
        flat = embeddings.reshape(batch * length, dim)
        rows = (members + torch.arange(batch, device=flat.device).view(batch, 1, 1) * length).flatten()
        shares = weights.gather(1, members.flatten(1)).masked_fill(~filled.flatten(1), 0).to(flat.dtype).flatten()
        starts = torch.arange(0, rows.numel(), group, device=flat.device)
        ctx.save_for_backward(embeddings, weights, slots)
        return torch.embedding_bag(flat, rows, starts, mode=0, per_sample_weights=shares)[0].view(batch, k, dim)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        embeddings, weights, slots = ctx.saved_tensors
        (batch, length, dim), k = embeddings.shape, grad.size(1)
        # Every token belongs to one slot, so both gradients are gathers: no scatter-add, hence deterministic.
        flat = grad.reshape(batch * k, dim)
        rows = (slots + torch.arange(batch, device=slots.device).view(batch, 1) * k).flatten()
        tokens = torch.arange(rows.numel(), device=rows.device)
        d_embeddings = d_weights = None
        if ctx.needs_input_grad[0]:
            shares = weights.to(flat.dtype).reshape(-1)
            d_embeddings = torch.embedding_bag(flat, rows, tokens, mode=0, per_sample_weights=shares)[0]
            d_embeddings = d_embeddings.view(batch, length, dim)
        if ctx.needs_input_grad[1]:
            # <grad of the token's slot, token> for every token, without a gathered copy of grad: 10x over bmm on CPU.
            # In the weights' precision: a sum over d overflows float16.
            flat, tokens_flat = flat.to(weights.dtype), embeddings.reshape(batch * length, dim).to(weights.dtype)
            d_weights = torch.ops.aten._embedding_bag_per_sample_weights_backward(
                flat, tokens_flat, tokens, tokens, rows, 0
            )
            d_weights = d_weights.view(batch, length).to(weights.dtype)
        return d_embeddings, d_weights, None, None, None


def partition_sum(embeddings: Tensor, weights: Tensor, slots: Tensor, members: Tensor, filled: Tensor) -> Tensor:
    """``out[b, j] = sum of weights[b, i] * embeddings[b, i] over the tokens i with slots[b, i] == j``.

    Forward reads each embedding once and writes the k sums; backward writes each gradient once. Both are
    deterministic. Differentiable (once) in ``embeddings`` and ``weights``.

    Args:
        embeddings: (B, n, d), float64, float32, float16 or bfloat16.
        weights: (B, n), any floating dtype; 0 for tokens that contribute to no slot.
        slots: (B, n) int64 in [0, k), the slot of every token.
        members: (B, k, g) int64 in [0, n), the tokens of every slot: the inverse of ``slots``.
        filled: (B, k, g) bool, False where ``members`` is only a placeholder.

    Returns:
        (B, k, d) in the dtype of ``embeddings``.
    """
    return _PartitionSum.apply(embeddings, weights, slots, members, filled)
