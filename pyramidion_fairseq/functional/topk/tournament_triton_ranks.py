"""Triton kernels that order the candidates of every round of ``tournament_triton``."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_pairs import load_pair, merge_pair, softmax_constants

_PAD_KEY = tl.constexpr(0x7FFFFFFFFFFFFFFF)  # sorts after the keys of all candidates


@triton.jit
def _key(score, candidate, SORT: tl.constexpr):
    """Return integer keys whose ascending order is the order of the candidates.

    With SORT: by score, descending, NaN first, then by index. Otherwise: by index, with empty candidates last.
    """
    if SORT:
        bits = tl.where(score == 0, 0.0, score).to(tl.int32, bitcast=True)  # no negative zero
        ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        descending = tl.where(score != score, -0x80000000, ~ascending)
        return (descending.to(tl.int64) << 32) | candidate
    order = candidate | tl.where(score == -float("inf"), 1 << 30, 0)
    return (order.to(tl.int64) << 32) | (score.to(tl.int32, bitcast=True).to(tl.int64) & 0xFFFFFFFF)


@triton.jit
def _candidate_and_score(key, SORT: tl.constexpr):
    """Decode the candidate and the score from a key."""
    high = (key >> 32).to(tl.int32)
    low = (key & 0xFFFFFFFF).to(tl.int32)
    if SORT:
        return low, (~high ^ ((~high >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    return high & 0x3FFFFFFF, low.to(tl.float32, bitcast=True)


@triton.jit
def _load_scores(
    scores_ptr,
    padding_mask_ptr,
    ordered_ptr,
    candidate,
    length,
    size,
    log_base,
    highest,
    IS_FIRST_ROUND: tl.constexpr,
    HAS_PADDING: tl.constexpr,
    IS_PEAKED: tl.constexpr,
):
    """Load the scores of candidates of a round with ``size`` candidates. Pointers point to the rows of one document.

    In the first round, the scores are those of the tokens. Later candidates are the merged pairs of the previous
    round, whose sorted scores are ``ordered``.
    """
    if IS_FIRST_ROUND:
        is_token = candidate < length
        # (BLOCK_CHUNK,) of (B, n)
        score = tl.load(scores_ptr + candidate, mask=is_token, other=-float("inf"))
        if HAS_PADDING:
            # (BLOCK_CHUNK,) of (B, n)
            padding = tl.load(padding_mask_ptr + candidate, mask=is_token, other=1)
            score = tl.where(padding != 0, -float("inf"), score)
    else:
        # (BLOCK_CHUNK,) twice, of (B, 2 * size)
        left, right = load_pair(ordered_ptr, 2 * size, candidate, candidate < size)
        _, score, _, _ = merge_pair(left, right, log_base, highest, IS_PEAKED)
    return score


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
    SORT: tl.constexpr,
    BLOCK_CHUNK: tl.constexpr,
):
    """Sort the keys of one chunk of the ``size`` candidates of a round."""
    pid_document = tl.program_id(0).to(tl.int64)
    pid_chunk = tl.program_id(1)
    candidate = pid_chunk * BLOCK_CHUNK + tl.arange(0, BLOCK_CHUNK)
    score = _load_scores(
        scores_ptr + pid_document * length,
        padding_mask_ptr + pid_document * length,
        ordered_ptr + pid_document * stride_ordered,
        candidate,
        length,
        size,
        log_base,
        highest,
        IS_FIRST_ROUND,
        HAS_PADDING,
        IS_PEAKED,
    )
    key = tl.where(candidate < size, _key(score, candidate, SORT), _PAD_KEY)
    tl.store(keys_ptr + pid_document * stride_keys + candidate, tl.sort(key))


@triton.jit
def _keep_order_kernel(
    # Pointers
    ranks_ptr,
    new_ordered_ptr,
    scores_ptr,
    ordered_ptr,
    # Strides
    stride_ordered,
    # Sizes
    length,
    size,
    # Scalars
    log_base,
    highest,
    # Constants
    IS_FIRST_ROUND: tl.constexpr,
    IS_PEAKED: tl.constexpr,
    BLOCK_CHUNK: tl.constexpr,
):
    """Rank candidates by index, and store their scores, for a round without sorting in which empty ones are last."""
    pid_document = tl.program_id(0).to(tl.int64)
    pid_chunk = tl.program_id(1)
    candidate = pid_chunk * BLOCK_CHUNK + tl.arange(0, BLOCK_CHUNK)
    score = _load_scores(
        scores_ptr + pid_document * length,
        scores_ptr,
        ordered_ptr + pid_document * stride_ordered,
        candidate,
        length,
        size,
        log_base,
        highest,
        IS_FIRST_ROUND,
        False,
        IS_PEAKED,
    )
    row = pid_document * stride_ordered + candidate
    tl.store(ranks_ptr + row, candidate, mask=candidate < size)
    tl.store(new_ordered_ptr + row, score, mask=candidate < size)


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
    SORT: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
    BLOCK_CANDIDATES: tl.constexpr,
):
    """Rank BLOCK_CANDIDATES candidates among all of a round, whose chunks are sorted, and store their sorted scores.

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
        # Binary search. Invariant: at least ``num_before`` keys of each chunk are smaller.
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
    candidate, score = _candidate_and_score(key, SORT)
    tl.store(ranks_ptr + pid_document * stride_ordered + candidate, rank, mask=is_candidate)
    tl.store(ordered_ptr + pid_document * stride_ordered + rank, score, mask=is_candidate)


def rank_rounds(
    scores: Tensor, padding_mask: Tensor | None, padded_length: int, k: int, base: float | None, sort: bool
) -> tuple[Tensor, Tensor]:
    """Order the candidates of every round: by score, or without ``sort`` by index, empty ones last.

    Returns:
        (B, c) int32 ranks and (B, c) sorted scores of all c = 2 (padded_length - k) candidates, one round after the
        other.
    """
    batch, length = scores.shape
    rounds = (padded_length // k).bit_length() - 1
    num_candidates = 2 * (padded_length - k)
    ranks = scores.new_empty(batch, num_candidates, dtype=torch.int32)
    ordered = scores.new_empty(batch, num_candidates)
    first = 0
    for round in range(rounds):
        size = padded_length >> round
        before = ordered[:, first - 2 * size :] if round else ordered
        if sort or (round == 0 and padding_mask is not None):
            _sort_round(
                ranks[:, first:], ordered[:, first:], before, scores, padding_mask, size, base, sort, round == 0
            )
        else:
            block = _chunk_size(size)
            _keep_order_kernel[batch, triton.cdiv(size, block)](
                ranks[:, first:],
                ordered[:, first:],
                scores,
                before,
                num_candidates,
                length,
                size,
                *softmax_constants(base),
                IS_FIRST_ROUND=round == 0,
                IS_PEAKED=base is not None,
                BLOCK_CHUNK=block,
            )
        first += size
    return ranks, ordered


def _sort_round(
    ranks: Tensor,
    ordered: Tensor,
    before: Tensor,
    scores: Tensor,
    padding_mask: Tensor | None,
    size: int,
    base: float | None,
    sort: bool,
    is_first_round: bool,
) -> None:
    """Fill in the ranks and the sorted scores of a round of ``size`` candidates, given those of the previous round."""
    batch, length = scores.shape
    chunk_size = _chunk_size(size)
    num_chunks = triton.cdiv(size, chunk_size)
    keys = scores.new_empty(batch, num_chunks * chunk_size, dtype=torch.int64)
    _sort_kernel[batch, num_chunks](
        keys,
        scores,
        scores if padding_mask is None else padding_mask.contiguous(),
        before,
        keys.size(1),
        ordered.stride(0),
        length,
        size,
        *softmax_constants(base),
        IS_FIRST_ROUND=is_first_round,
        HAS_PADDING=padding_mask is not None,
        IS_PEAKED=base is not None,
        SORT=sort,
        BLOCK_CHUNK=chunk_size,
        num_warps=max(chunk_size // 128, 1),
    )
    block_candidates = min(chunk_size, 128)
    _rank_kernel[batch, keys.size(1) // block_candidates](
        ranks,
        ordered,
        keys,
        ordered.stride(0),
        num_chunks,
        CHUNK_SIZE=chunk_size,
        SEARCH_STEPS=chunk_size.bit_length() - 1,
        SORT=sort,
        BLOCK_CHUNKS=min(triton.next_power_of_2(num_chunks), 8),
        BLOCK_CANDIDATES=block_candidates,
    )


def _chunk_size(size: int) -> int:
    """Return the chunk size for sorting the ``size`` candidates of a round.

    Small chunks give work to many programs. But each candidate is searched in every chunk, so there must not be too
    many.
    """
    size = triton.next_power_of_2(size)
    return min(max(size // 8, 256), 1024, size)
