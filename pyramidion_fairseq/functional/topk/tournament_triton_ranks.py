"""Triton kernels that sort the candidates of every round of ``tournament_triton``."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_pairs import load_pair, merge_pair, softmax_constants

_PAD_KEY = tl.constexpr(0x7FFFFFFFFFFFFFFF)  # a key after those of all candidates


@triton.jit
def _key(score, candidate):
    """Return whole numbers that sort as candidates do: by score, the highest first, NaN before all; then by number."""
    bits = tl.where(score == 0, 0.0, score).to(tl.int32, bitcast=True)  # no negative zero
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    descending = tl.where(score != score, -0x80000000, ~ascending)
    return (descending.to(tl.int64) << 32) | candidate


@triton.jit
def _score(key):
    """Return the score of a key."""
    ascending = ~((key >> 32).to(tl.int32))
    return (ascending ^ ((ascending >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _sort_kernel(
    # Pointers
    keys_ptr,
    scores_ptr,
    padding_mask_ptr,
    ordered_ptr,
    # Strides
    stride_keys,
    stride_ordered,
    # Sizes
    length,
    size,
    # Scalars
    log_base,
    highest,
    # Constants
    IS_FIRST_ROUND: tl.constexpr,
    HAS_PADDING: tl.constexpr,
    IS_PEAKED: tl.constexpr,
    BLOCK_CHUNK: tl.constexpr,
):
    """Sort one chunk of the ``size`` candidates of a round.

    In the first round the candidates have the scores themselves. Later ones are the merged pairs of the round before,
    whose scores in order are ``ordered``.
    """
    pid_document = tl.program_id(0).to(tl.int64)
    pid_chunk = tl.program_id(1)
    candidate = pid_chunk * BLOCK_CHUNK + tl.arange(0, BLOCK_CHUNK)
    is_candidate = candidate < size
    if IS_FIRST_ROUND:
        is_token = candidate < length
        # (BLOCK_CHUNK,) of (B, n)
        score = tl.load(scores_ptr + pid_document * length + candidate, mask=is_token, other=-float("inf"))
        if HAS_PADDING:
            # (BLOCK_CHUNK,) of (B, n)
            padding = tl.load(padding_mask_ptr + pid_document * length + candidate, mask=is_token, other=1)
            score = tl.where(padding != 0, -float("inf"), score)
    else:
        # (BLOCK_CHUNK,) twice, of (B, 2 * size)
        left, right = load_pair(ordered_ptr + pid_document * stride_ordered, 2 * size, candidate, is_candidate)
        _, score, _, _ = merge_pair(left, right, log_base, highest, IS_PEAKED)
    key = tl.where(is_candidate, _key(score, candidate), _PAD_KEY)
    tl.store(keys_ptr + pid_document * stride_keys + candidate, tl.sort(key))


@triton.jit
def _rank_kernel(
    # Pointers
    ranks_ptr,
    ordered_ptr,
    keys_ptr,
    # Strides
    stride_ordered,
    # Sizes
    num_chunks,
    # Constants
    CHUNK_SIZE: tl.constexpr,
    SEARCH_STEPS: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
    BLOCK_CANDIDATES: tl.constexpr,
):
    """Rank BLOCK_CANDIDATES candidates among all of a round, whose chunks are sorted, and store their scores in order.

    CHUNK_SIZE is 2**SEARCH_STEPS. BLOCK_CHUNKS chunks are searched at a time.
    """
    pid_document = tl.program_id(0).to(tl.int64)
    pid_candidates = tl.program_id(1)
    keys_ptr += pid_document * num_chunks * CHUNK_SIZE
    # (BLOCK_CANDIDATES,) of (B, num_chunks * CHUNK_SIZE)
    key = tl.load(keys_ptr + pid_candidates * BLOCK_CANDIDATES + tl.arange(0, BLOCK_CANDIDATES))
    rank = tl.zeros([BLOCK_CANDIDATES], tl.int32)
    for start in range(0, num_chunks, BLOCK_CHUNKS):
        chunk = (start + tl.arange(0, BLOCK_CHUNKS))[:, None]
        # Binary search: at least ``num_before`` keys of each chunk are smaller.
        num_before = tl.zeros([BLOCK_CHUNKS, BLOCK_CANDIDATES], tl.int32)
        step = CHUNK_SIZE // 2
        for _ in tl.static_range(SEARCH_STEPS + 1):
            # (BLOCK_CHUNKS, BLOCK_CANDIDATES) of (B, num_chunks * CHUNK_SIZE)
            other = tl.load(
                keys_ptr + chunk * CHUNK_SIZE + num_before + step - 1, mask=chunk < num_chunks, other=_PAD_KEY
            )
            num_before += tl.where(other < key[None, :], step, 0)
            step = (step + 1) // 2
        rank += tl.sum(num_before, axis=0)
    is_candidate = key != _PAD_KEY
    candidate = (key & 0xFFFFFFFF).to(tl.int32)
    tl.store(ranks_ptr + pid_document * stride_ordered + candidate, rank, mask=is_candidate)
    tl.store(ordered_ptr + pid_document * stride_ordered + rank, _score(key), mask=is_candidate)


def rank_rounds(
    scores: Tensor, padding_mask: Tensor | None, padded_length: int, k: int, base: float | None
) -> tuple[Tensor, Tensor]:
    """Sort the candidates of every round.

    Returns:
        (B, c) int32 ranks and (B, c) scores in order, of all c = 2 (padded_length - k) candidates, round after round.
    """
    batch, length = scores.shape
    rounds = (padded_length // k).bit_length() - 1
    num_candidates = 2 * (padded_length - k)
    ranks = scores.new_empty(batch, num_candidates, dtype=torch.int32)
    ordered = scores.new_empty(batch, num_candidates)
    first = 0
    for round in range(rounds):
        size = padded_length >> round
        chunk_size = _chunk(size)
        num_chunks = triton.cdiv(size, chunk_size)
        keys = scores.new_empty(batch, num_chunks * chunk_size, dtype=torch.int64)
        _sort_kernel[batch, num_chunks](
            keys,
            scores,
            scores if padding_mask is None else padding_mask.contiguous(),
            ordered[:, first - 2 * size :] if round else ordered,
            keys.size(1),
            num_candidates,
            length,
            size,
            *softmax_constants(base),
            IS_FIRST_ROUND=round == 0,
            HAS_PADDING=padding_mask is not None,
            IS_PEAKED=base is not None,
            BLOCK_CHUNK=chunk_size,
            num_warps=max(chunk_size // 128, 1),
        )
        block_candidates = min(chunk_size, 128)
        _rank_kernel[batch, keys.size(1) // block_candidates](
            ranks[:, first:],
            ordered[:, first:],
            keys,
            num_candidates,
            num_chunks,
            CHUNK_SIZE=chunk_size,
            SEARCH_STEPS=chunk_size.bit_length() - 1,
            BLOCK_CHUNKS=min(triton.next_power_of_2(num_chunks), 8),
            BLOCK_CANDIDATES=block_candidates,
        )
        first += size
    return ranks, ordered


def _chunk(size: int) -> int:
    """Return how many of the ``size`` candidates of a round one program sorts.

    Small chunks give many programs work. But there must not be many chunks, as every candidate is searched in each.
    """
    size = triton.next_power_of_2(size)
    return min(max(size // 8, 256), 1024, size)
