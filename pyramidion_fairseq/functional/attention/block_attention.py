"""Attention inside non-overlapping blocks (paper, section 3.1), with little computation on padding."""

from __future__ import annotations

import functools
from itertools import groupby
from typing import NamedTuple, Sequence

import torch
from torch import Tensor

from .blocks import join_blocks, split_blocks
from .dot_product import dot_product_attention
from .neighbourhood import key_mask_of, masked_attention


def block_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    size: int,
    padding_mask: Tensor | None = None,
    document_lengths: Sequence[int] | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Let each token attend to its own block. Blocks are counted from the start of the document.

    If the lengths are not known on the host, all blocks are masked, so as not to synchronise with the device.
    Otherwise, if all documents have the same length, one call computes the full blocks and another one the last,
    shorter blocks, without masks. If the lengths differ, a CPU does this for one length after the other. Other devices
    need longer to launch many small calls than to compute them, so they make the two calls of
    :func:`attend_in_two_batches`.

    Args:
        query, key, value: (B, T, H, D).
        size: number of tokens per block, at least 1.
        padding_mask: (B, T) bool, True on padding, on the right only; None if there is no padding.
        document_lengths: number of tokens of each document on the host, consistent with ``padding_mask``; or None.
        dropout: dropout probability of the attention weights; 0 in evaluation.

    Returns:
        (B, T, H, D); rows at padding are finite but arbitrary.

    Raises:
        ValueError: ``size`` is below 1.
    """
    batch, length = query.shape[:2]
    if size < 1:
        raise ValueError(f"a block needs at least one token, got size={size}")
    if document_lengths is None and padding_mask is not None:
        size = min(size, length)
        key_mask = split_blocks(key_mask_of(query, padding_mask), size)
        query, key, value = (split_blocks(x, size) for x in (query, key, value))  # (B * blocks, size, H, D)
        return join_blocks(masked_attention(query, key, value, key_mask, dropout), batch, length)
    document_lengths = [length] * batch if document_lengths is None else document_lengths
    if min(document_lengths) == max(document_lengths):
        return _attend_equal_lengths(query, key, value, document_lengths[0], size, dropout)
    if query.device.type != "cpu":
        return attend_in_two_batches(query, key, value, size, document_lengths, dropout)
    parts = []
    start = 0
    for tokens, documents in groupby(document_lengths):
        stop = start + len(list(documents))
        rows = slice(start, stop)
        parts.append(_attend_equal_lengths(query[rows], key[rows], value[rows], tokens, size, dropout))
        start = stop
    return torch.cat(parts)


def _attend_equal_lengths(query: Tensor, key: Tensor, value: Tensor, tokens: int, size: int, dropout: float) -> Tensor:
    """Attend within documents of ``tokens`` tokens, padded to T: (B, T, H, D) x 3 -> (B, T, H, D), zero on padding."""
    full = tokens - tokens % size
    parts = []
    for begin, end, width in ((0, full, size), (full, tokens, tokens - full)):
        if begin < end:
            # Slicing the whole tensor would cost a copy in the backward pass.
            tokens_of = (x if end - begin == x.size(1) else x[:, begin:end] for x in (query, key, value))
            # (B * blocks, H, width, D)
            queries, keys, values = (x.unflatten(1, (-1, width)).flatten(0, 1).transpose(1, 2) for x in tokens_of)
            out = dot_product_attention(queries, keys, values, dropout=dropout).transpose(1, 2)
            parts.append(out.reshape(len(query), end - begin, *out.shape[2:]))
    if tokens < query.size(1):
        parts.append(value.new_zeros(len(value), value.size(1) - tokens, *value.shape[2:]))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def attend_in_two_batches(
    query: Tensor, key: Tensor, value: Tensor, size: int, document_lengths: Sequence[int], dropout: float = 0.0
) -> Tensor:
    """Attend in two calls, whatever the number of documents.

    Blocks are independent. The full blocks of all documents are one batch. The last, shorter blocks are the other
    batch, padded to the longest of them, with a key mask. If a block is as long as the longest document, as in full
    attention, all documents are in the second batch.

    Args:
        query, key, value, size, document_lengths, dropout: see :func:`block_attention`.

    Returns:
        (B, T, H, D), zero on padding.
    """
    batch, length, heads, dim = value.shape
    index = _block_index(tuple(document_lengths), length, size, query.device, torch.is_inference_mode_enabled())
    # (B, T, H, D) -> (rows, H, D): the tokens of the full blocks, then those of the last blocks
    rows = [x.flatten(0, 1).index_select(0, index.sources) for x in (query, key, value)]
    full = index.full * size
    parts = []
    if full:
        # (full blocks, H, size, D)
        queries, keys, values = (x[:full].unflatten(0, (index.full, size)).transpose(1, 2) for x in rows)
        out = dot_product_attention(queries, keys, values, dropout=dropout)
        parts.append(out.transpose(1, 2).flatten(0, 1))
    if index.key_mask is not None:
        # (last blocks, H, width of the longest, D)
        queries, keys, values = (x[full:].unflatten(0, (len(index.key_mask), -1)).transpose(1, 2) for x in rows)
        out = dot_product_attention(queries, keys, values, index.key_mask, dropout=dropout)
        parts.append(out.transpose(1, 2).flatten(0, 1))
    out = parts[0] if len(parts) == 1 else torch.cat(parts)
    # Copies that fill up a block are written to a row behind the last document, which is cut off.
    joined = value.new_zeros(batch * length + 1, heads, dim, dtype=out.dtype).index_copy_(0, index.targets, out)
    return joined[:-1].view(batch, length, heads, dim)


class _BlockIndex(NamedTuple):
    """Indices of the tokens of all blocks among the B * T tokens of a batch; full blocks first, then last blocks."""

    full: int
    """Number of full blocks."""
    sources: Tensor
    """(rows,) int64, the token read by each row. Blocks are filled up with copies of the document's last token."""
    targets: Tensor
    """(rows,) int64, the token written by each row; B * T for the copies that fill up a block."""
    key_mask: Tensor | None
    """(blocks, 1, 1, width) bool, True on the tokens of the last blocks; None if all blocks are full."""


@functools.lru_cache(maxsize=4)
def _block_index(
    document_lengths: tuple[int, ...], length: int, size: int, device: torch.device, inference: bool
) -> _BlockIndex:
    """Return the index of a batch, cached for all layers that read the batch.

    Args:
        document_lengths: number of tokens of each document, not all equal.
        length: T.
        size: number of tokens of a full block.
        device: device of the index.
        inference: whether inference mode is enabled. Only part of the cache key, because tensors created in inference
            mode must not be used outside of it.
    """
    size = min(size, length)
    # Indices among the B * T tokens: of the first token of each full block, and of the first and the last token of
    # each last block.
    full_starts: list[int] = []
    last_starts: list[int] = []
    last_ends: list[int] = []
    for row, num_tokens in enumerate(document_lengths):
        # If a block is as long as the longest document, all documents are last blocks: one batch, not two.
        rest = num_tokens % size if size < length else num_tokens
        start = row * length
        end = start + num_tokens
        full_starts += range(start, end - rest, size)
        if rest:
            last_starts.append(end - rest)
            last_ends.append(end - 1)
    bounds = _on_device([*full_starts, *last_starts, *last_ends], device).unsqueeze(1)
    # (full blocks, 1), (last blocks, 1), (last blocks, 1)
    full_start, last_start, last_end = bounds.split([len(full_starts), len(last_starts), len(last_ends)])
    offsets = torch.arange(size, device=device)
    sources = (full_start + offsets).flatten()
    if not last_starts:
        return _BlockIndex(len(full_starts), sources, sources, None)
    width = max(end - start + 1 for start, end in zip(last_starts, last_ends))
    tokens = last_start + offsets[:width]  # (last blocks, width)
    is_token = tokens <= last_end
    clamped = torch.minimum(tokens, last_end)
    targets = torch.where(is_token, tokens, len(document_lengths) * length)
    return _BlockIndex(
        len(full_starts),
        torch.cat([sources, clamped.flatten()]),
        torch.cat([sources, targets.flatten()]),
        is_token[:, None, None],
    )


def _on_device(numbers: list[int], device: torch.device) -> Tensor:
    """Copy integers to an int64 tensor, without synchronising with a GPU."""
    if device.type != "cuda":
        return torch.tensor(numbers, dtype=torch.int64, device=device)
    return torch.tensor(numbers, dtype=torch.int64, pin_memory=True).to(device, non_blocking=True)
