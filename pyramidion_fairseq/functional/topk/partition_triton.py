"""Triton kernels of ``partition_torch``: float16, bfloat16 and float32 on CUDA, summed in float32, without atomics.

Both kernels read the required embeddings once and write each output once. The functions have the same arguments and
results as their counterparts in ``partition_torch``, against which they are tested. Set TRITON_INTERPRET=1 before the
first import of Triton to run them, slowly, on CPU tensors.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Number of slot members, and of tokens, that one program processes at a time.
_BLOCK_MEMBERS = 8
_BLOCK_TOKENS = 8
#: Number of embedding columns that one program processes at a time.
_BLOCK_COLUMNS = 256


@triton.jit
def _sum_kernel(
    # Pointers
    out_ptr,
    embeddings_ptr,
    weights_ptr,
    members_ptr,
    filled_ptr,
    # Strides of the embeddings
    stride_document,
    stride_token,
    # Sizes
    length,
    dim,
    k,
    group,
    # Constants
    HAS_FILLED: tl.constexpr,
    BLOCK_MEMBERS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Sum BLOCK_COLUMNS columns of the members of one slot."""
    pid_slot = tl.program_id(0).to(tl.int64)  # index among the B * k slots of all documents
    pid_columns = tl.program_id(1)
    document = pid_slot // k
    columns = pid_columns * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    sums = tl.zeros([BLOCK_MEMBERS, BLOCK_COLUMNS], tl.float32)
    for start in range(0, group, BLOCK_MEMBERS):
        member_index = start + tl.arange(0, BLOCK_MEMBERS)
        is_member = member_index < group
        if HAS_FILLED:
            # (BLOCK_MEMBERS,) of (B, k, g)
            is_member &= tl.load(filled_ptr + pid_slot * group + member_index, mask=is_member, other=0) != 0
        # (BLOCK_MEMBERS,) of (B, k, g)
        tokens = tl.load(members_ptr + pid_slot * group + member_index, mask=is_member, other=0)
        # (BLOCK_MEMBERS,) of (B, n)
        shares = tl.load(weights_ptr + document * length + tokens, mask=is_member, other=0.0).to(tl.float32)
        # (BLOCK_MEMBERS, BLOCK_COLUMNS) of (B, n, d)
        rows = tl.load(
            embeddings_ptr + document * stride_document + tokens[:, None] * stride_token + columns[None, :],
            mask=is_member[:, None] & (columns < dim)[None, :],
            other=0.0,
        )
        sums += shares[:, None] * rows.to(tl.float32)
    total = tl.sum(sums, axis=0).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + pid_slot * dim + columns, total, mask=columns < dim)


@triton.jit
def _sum_backward_kernel(
    # Pointers
    d_embeddings_ptr,
    d_weights_ptr,
    grad_ptr,
    embeddings_ptr,
    weights_ptr,
    slots_ptr,
    # Strides of the embeddings
    stride_document,
    stride_token,
    # Sizes
    num_tokens,
    length,
    dim,
    k,
    # Constants
    HAS_D_EMBEDDINGS: tl.constexpr,
    HAS_D_WEIGHTS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Compute both gradients of BLOCK_TOKENS tokens. The gradient of each token's slot is read once."""
    pid_tokens = tl.program_id(0).to(tl.int64)
    tokens = pid_tokens * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)  # indices among the B * n tokens of all documents
    is_token = tokens < num_tokens
    documents = tokens // length
    # (BLOCK_TOKENS,) of (B, n)
    slots = documents * k + tl.load(slots_ptr + tokens, mask=is_token, other=0)
    # (BLOCK_TOKENS,) of (B, n)
    shares = tl.load(weights_ptr + tokens, mask=is_token, other=0.0).to(tl.float32)
    row_starts = documents * stride_document + (tokens % length) * stride_token
    dots = tl.zeros([BLOCK_TOKENS], tl.float32)
    for start in range(0, dim, BLOCK_COLUMNS):
        columns = start + tl.arange(0, BLOCK_COLUMNS)
        mask = is_token[:, None] & (columns < dim)[None, :]
        # (BLOCK_TOKENS, BLOCK_COLUMNS) of (B, k, d)
        grads = tl.load(grad_ptr + slots[:, None] * dim + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        if HAS_D_EMBEDDINGS:
            value = tl.where(shares[:, None] == 0, 0.0, shares[:, None] * grads).to(d_embeddings_ptr.dtype.element_ty)
            tl.store(d_embeddings_ptr + tokens[:, None] * dim + columns[None, :], value, mask=mask)
        if HAS_D_WEIGHTS:
            # (BLOCK_TOKENS, BLOCK_COLUMNS) of (B, n, d)
            rows = tl.load(embeddings_ptr + row_starts[:, None] + columns[None, :], mask=mask, other=0.0)
            dots += tl.sum(grads * rows.to(tl.float32), axis=1)
    if HAS_D_WEIGHTS:
        tl.store(d_weights_ptr + tokens, dots.to(d_weights_ptr.dtype.element_ty), mask=is_token)


def partition_sum(embeddings: Tensor, weights: Tensor, members: Tensor, filled: Tensor | None) -> Tensor:
    """Compute ``partition_sum_torch``: (B, n, d), (B, n), (B, k, g), (B, k, g) or None -> (B, k, d)."""
    batch, k, group = members.shape
    _, length, dim = embeddings.shape
    out = embeddings.new_empty(batch, k, dim)
    if not out.numel():
        return out
    embeddings = _with_adjacent_columns(embeddings)
    weights = weights.contiguous()
    members = members.contiguous()
    block_columns = _block_size(dim, _BLOCK_COLUMNS)
    with torch.cuda.device_of(out):
        _sum_kernel[(batch * k, triton.cdiv(dim, block_columns))](
            out,
            embeddings,
            weights,
            members,
            members if filled is None else filled.contiguous(),
            embeddings.stride(0),
            embeddings.stride(1),
            length,
            dim,
            k,
            group,
            HAS_FILLED=filled is not None,
            BLOCK_MEMBERS=_block_size(group, _BLOCK_MEMBERS),
            BLOCK_COLUMNS=block_columns,
        )
    return out


def partition_sum_backward(
    grad: Tensor, embeddings: Tensor, weights: Tensor, slots: Tensor, d_embeddings: bool, d_weights: bool
) -> tuple[Tensor, Tensor]:
    """Compute ``partition_sum_backward_torch``: (B, k, d), (B, n, d), (B, n), (B, n) -> (B, n, d), (B, n)."""
    batch, length, dim = embeddings.shape
    k = grad.size(1)
    of_embeddings = embeddings.new_empty(embeddings.shape if d_embeddings else 0)
    of_weights = weights.new_empty(weights.shape if d_weights else 0)
    if not embeddings.numel() or not (d_embeddings or d_weights):
        return of_embeddings, of_weights
    embeddings = _with_adjacent_columns(embeddings)
    with torch.cuda.device_of(embeddings):
        _sum_backward_kernel[(triton.cdiv(batch * length, _BLOCK_TOKENS),)](
            of_embeddings,
            of_weights,
            grad.contiguous(),
            embeddings,
            weights.contiguous(),
            slots.contiguous(),
            embeddings.stride(0),
            embeddings.stride(1),
            batch * length,
            length,
            dim,
            k,
            HAS_D_EMBEDDINGS=d_embeddings,
            HAS_D_WEIGHTS=d_weights,
            BLOCK_TOKENS=_BLOCK_TOKENS,
            BLOCK_COLUMNS=_block_size(dim, _BLOCK_COLUMNS),
        )
    return of_embeddings, of_weights


def _with_adjacent_columns(embeddings: Tensor) -> Tensor:
    """Return the embeddings with a stride of 1 between columns; documents and tokens may have any stride."""
    return embeddings if embeddings.stride(2) == 1 else embeddings.contiguous()


def _block_size(size: int, largest: int) -> int:
    """Return the smallest power of two that is at least ``size``, but at most ``largest``."""
    return min(triton.next_power_of_2(max(size, 1)), largest)
