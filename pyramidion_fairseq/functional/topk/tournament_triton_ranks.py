"""Triton kernels that sort the candidates of every round of ``tournament_triton``."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_pairs import load_pair, merge_pair, softmax_constants

_PAD_KEY = tl.constexpr(0x7FFFFFFFFFFFFFFF)  # a key after those of all candidates


@triton.jit
def _key(score, number):
    """A whole number that sorts as the candidates do: by score, the highest first, NaN before all; then by number."""
    bits = tl.where(score == 0, 0.0, score).to(tl.int32, bitcast=True)  # no negative zero
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    descending = tl.where(score != score, -0x80000000, ~ascending)
    return (descending.to(tl.int64) << 32) | number


@triton.jit
def _score(key):
    """The score of a key."""
    ascending = ~((key >> 32).to(tl.int32))
    return (ascending ^ ((ascending >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _sort_kernel(
    keys,
    scores,
    padding_mask,
    ordered,
    length,
    size,
    width,
    log_base,
    highest,
    stride_ordered,
    FIRST: tl.constexpr,
    PADDED: tl.constexpr,
    PEAKED: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Sort one chunk of the ``size`` candidates of a round: in the first, of the scores; later, of the merged pairs of
    the round before, whose scores in order are ``ordered``."""
    document = tl.program_id(0).to(tl.int64)
    number = tl.program_id(1) * CHUNK + tl.arange(0, CHUNK)
    inside = number < size
    if FIRST:
        token = number < length
        score = tl.load(scores + document * length + number, mask=token, other=-float("inf"))
        if PADDED:
            padding = tl.load(padding_mask + document * length + number, mask=token, other=1)
            score = tl.where(padding != 0, -float("inf"), score)
    else:
        left, right = load_pair(ordered + document * stride_ordered, 2 * size, number, inside)
        _, score, _, _ = merge_pair(left, right, log_base, highest, PEAKED)
    key = tl.where(inside, _key(score, number), _PAD_KEY)
    tl.store(keys + document * width + number, tl.sort(key))


@triton.jit
def _rank_kernel(
    ranks,
    ordered,
    keys,
    chunks,
    stride_ordered,
    CHUNK: tl.constexpr,
    STEPS: tl.constexpr,
    TOGETHER: tl.constexpr,
    CANDIDATES: tl.constexpr,
):
    """Rank some candidates among all of a round, whose chunks are sorted, and store their scores in order. CHUNK is
    2**STEPS; so many chunks TOGETHER are searched at a time."""
    document = tl.program_id(0).to(tl.int64)
    keys += document * chunks * CHUNK
    key = tl.load(keys + tl.program_id(1) * CANDIDATES + tl.arange(0, CANDIDATES))
    rank = tl.zeros([CANDIDATES], tl.int32)
    for start in range(0, chunks, TOGETHER):
        chunk = (start + tl.arange(0, TOGETHER))[:, None]
        before = tl.zeros([TOGETHER, CANDIDATES], tl.int32)  # so many of the chunk are surely before
        jump = CHUNK // 2
        for _ in tl.static_range(STEPS + 1):
            other = tl.load(keys + chunk * CHUNK + before + jump - 1, mask=chunk < chunks, other=_PAD_KEY)
            before += tl.where(other < key[None, :], jump, 0)
            jump = (jump + 1) // 2
        rank += tl.sum(before, axis=0)
    inside = key != _PAD_KEY
    number = (key & 0xFFFFFFFF).to(tl.int32)
    tl.store(ranks + document * stride_ordered + number, rank, mask=inside)
    tl.store(ordered + document * stride_ordered + rank, _score(key), mask=inside)


def rank_rounds(
    scores: Tensor, padding_mask: Tensor | None, padded_length: int, k: int, base: float
) -> tuple[Tensor, Tensor]:
    """Sort the candidates of every round.

    Returns:
        (B, c) int32 ranks and (B, c) scores in order, of all c = 2 (padded_length - k) candidates, round after round.
    """
    batch, length = scores.shape
    rounds = (padded_length // k).bit_length() - 1
    candidates = 2 * (padded_length - k)
    ranks = scores.new_empty(batch, candidates, dtype=torch.int32)
    ordered = scores.new_empty(batch, candidates)
    first = 0
    for round in range(rounds):
        size = padded_length >> round
        chunk = _chunk(size)
        chunks = triton.cdiv(size, chunk)
        keys = scores.new_empty(batch, chunks * chunk, dtype=torch.int64)
        _sort_kernel[batch, chunks](
            keys,
            scores,
            scores if padding_mask is None else padding_mask.contiguous(),
            ordered[:, first - 2 * size :] if round else ordered,
            length,
            size,
            keys.size(1),
            *softmax_constants(base),
            candidates,
            FIRST=round == 0,
            PADDED=padding_mask is not None,
            PEAKED=base > 0,
            CHUNK=chunk,
            num_warps=max(chunk // 128, 1),
        )
        searching = min(chunk, 128)
        _rank_kernel[batch, keys.size(1) // searching](
            ranks[:, first:],
            ordered[:, first:],
            keys,
            chunks,
            candidates,
            CHUNK=chunk,
            STEPS=chunk.bit_length() - 1,
            TOGETHER=min(triton.next_power_of_2(chunks), 8),
            CANDIDATES=searching,
        )
        first += size
    return ranks, ordered


def _chunk(size: int) -> int:
    """Return how many of the candidates of a round one program sorts.

    Few, for many programs; but not many chunks, in each of which every candidate is searched.
    """
    size = triton.next_power_of_2(size)
    return min(max(size // 8, 256), 1024, size)
