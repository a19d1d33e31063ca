"""Triton kernels of ``partition_torch``: float16, bfloat16 and float32 on CUDA, summed in float32, no atomics.

Both read what they need of the embeddings once and write each output once. The functions take and return what their
counterparts in ``partition_torch`` do, whose numbers they are tested against. They run on CPU tensors, slowly, with
TRITON_INTERPRET=1 in the environment before the first import of Triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _sum_kernel(
    out,
    embeddings,
    weights,
    members,
    filled,
    length,
    dim,
    k,
    group,
    stride_document,
    stride_token,
    HAS_FILLED: tl.constexpr,
    MEMBERS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One slot of one document, COLUMNS columns of it: MEMBERS rows are loaded at a time."""
    slot = tl.program_id(0).to(tl.int64)  # among those of all documents
    document = slot // k
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    sums = tl.zeros([MEMBERS, COLUMNS], tl.float32)
    for start in range(0, group, MEMBERS):
        places = start + tl.arange(0, MEMBERS)
        taken = places < group
        if HAS_FILLED:
            taken = taken & (tl.load(filled + slot * group + places, mask=taken, other=0) != 0)
        tokens = tl.load(members + slot * group + places, mask=taken, other=0)
        shares = tl.load(weights + document * length + tokens, mask=taken, other=0.0).to(tl.float32)
        rows = tl.load(
            embeddings + document * stride_document + tokens[:, None] * stride_token + columns[None, :],
            mask=taken[:, None] & (columns < dim)[None, :],
            other=0.0,
        )
        sums += shares[:, None] * rows.to(tl.float32)
    total = tl.sum(sums, axis=0).to(out.dtype.element_ty)
    tl.store(out + slot * dim + columns, total, mask=columns < dim)


@triton.jit
def _backward_kernel(
    d_embeddings,
    d_weights,
    grad,
    embeddings,
    weights,
    slots,
    count,
    length,
    dim,
    k,
    stride_document,
    stride_token,
    D_EMBEDDINGS: tl.constexpr,
    D_WEIGHTS: tl.constexpr,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """TOKENS tokens: each meets the gradient of its slot once, for both of its own gradients."""
    tokens = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)  # among those of all documents
    inside = tokens < count
    documents = tokens // length
    slot = documents * k + tl.load(slots + tokens, mask=inside, other=0)
    share = tl.load(weights + tokens, mask=inside, other=0.0).to(tl.float32)
    origin = documents * stride_document + (tokens % length) * stride_token
    dots = tl.zeros([TOKENS], tl.float32)
    for start in range(0, dim, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        mask = inside[:, None] & (columns < dim)[None, :]
        above = tl.load(grad + slot[:, None] * dim + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        if D_EMBEDDINGS:
            value = tl.where(share[:, None] == 0, 0.0, share[:, None] * above).to(d_embeddings.dtype.element_ty)
            tl.store(d_embeddings + tokens[:, None] * dim + columns[None, :], value, mask=mask)
        if D_WEIGHTS:
            rows = tl.load(embeddings + origin[:, None] + columns[None, :], mask=mask, other=0.0)
            dots += tl.sum(above * rows.to(tl.float32), axis=1)
    if D_WEIGHTS:
        tl.store(d_weights + tokens, dots.to(d_weights.dtype.element_ty), mask=inside)


def partition_sum(embeddings: Tensor, weights: Tensor, members: Tensor, filled: Tensor | None) -> Tensor:
    """``partition.sum_members``: (B, n, d), (B, n), (B, k, g), (B, k, g) or None -> (B, k, d)."""
    (batch, k, group), (_, length, dim) = members.shape, embeddings.shape
    out = embeddings.new_empty(batch, k, dim)
    if out.numel():
        embeddings, weights, members = _rows(embeddings), weights.contiguous(), members.contiguous()
        columns = _tile(dim, 256)
        with torch.cuda.device_of(out):
            _sum_kernel[(batch * k, triton.cdiv(dim, columns))](
                out,
                embeddings,
                weights,
                members,
                members if filled is None else filled.contiguous(),
                length,
                dim,
                k,
                group,
                embeddings.stride(0),
                embeddings.stride(1),
                HAS_FILLED=filled is not None,
                MEMBERS=_tile(group, 8),
                COLUMNS=columns,
            )
    return out


def partition_sum_backward(
    grad: Tensor, embeddings: Tensor, weights: Tensor, slots: Tensor, d_embeddings: bool, d_weights: bool
) -> tuple[Tensor, Tensor]:
    """``partition.gradients``: (B, k, d), (B, n, d), (B, n), (B, n) -> (B, n, d) and (B, n), in one pass."""
    (batch, length, dim), k = embeddings.shape, grad.size(1)
    of_embeddings = embeddings.new_empty(embeddings.shape if d_embeddings else 0)
    of_weights = weights.new_empty(weights.shape if d_weights else 0)
    if embeddings.numel() and (d_embeddings or d_weights):
        embeddings = _rows(embeddings)
        tokens = 8
        with torch.cuda.device_of(embeddings):
            _backward_kernel[(triton.cdiv(batch * length, tokens),)](
                of_embeddings,
                of_weights,
                grad.contiguous(),
                embeddings,
                weights.contiguous(),
                slots.contiguous(),
                batch * length,
                length,
                dim,
                k,
                embeddings.stride(0),
                embeddings.stride(1),
                D_EMBEDDINGS=d_embeddings,
                D_WEIGHTS=d_weights,
                TOKENS=tokens,
                COLUMNS=_tile(dim, 256),
            )
    return of_embeddings, of_weights


def _rows(embeddings: Tensor) -> Tensor:
    """With columns side by side; documents and tokens may lie as they do."""
    return embeddings if embeddings.stride(2) == 1 else embeddings.contiguous()


def _tile(size: int, largest: int) -> int:
    return min(triton.next_power_of_2(max(size, 1)), largest)
