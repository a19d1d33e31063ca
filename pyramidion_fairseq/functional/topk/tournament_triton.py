"""Triton kernels of ``tournament``: float32 scores on CUDA, sorted before every round. No atomics.

Each document is worked on by many programs at once. A round takes two kernels: programs sort a chunk of the candidates
each; then every candidate finds its rank by a binary search in each chunk, as ranks in sorted chunks add up. After the
last round, every token goes from round to round to its slot. The functions take and return what their counterparts in
``tournament_torch`` do, whose numbers they are tested against. With TRITON_INTERPRET=1 in the environment before the
first import of Triton they run on CPU tensors, slowly.

Padding and byes have the score -inf in here; a token's score is finite, or NaN.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tournament_ops import empty_outputs
from .tournament_triton_ranks import rank_rounds
from .triton_pairs import load_pair, merge_pair, softmax_constants

#: Candidates that one program works on.
_BLOCK = 256


@triton.jit
def _walk_kernel(
    nodes,
    member_index,
    weights,
    node_scores,
    ranks,
    ordered,
    length,
    padded_length,
    k,
    log_base,
    highest,
    stride_ordered,
    ROUNDS: tl.constexpr,
    PEAKED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Follow every candidate up from round to round: to which winner of the last round, to which member index of its
    slot (0 is the winner's own), with what weight."""
    document = tl.program_id(0).to(tl.int64)
    candidate = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = candidate < padded_length
    ranks += document * stride_ordered
    ordered += document * stride_ordered
    node, own, share = candidate, tl.zeros([BLOCK], tl.int32), tl.full([BLOCK], 1.0, tl.float32)
    empty = tl.zeros([BLOCK], tl.int1)
    score = tl.zeros([BLOCK], tl.float32)
    size = padded_length
    for round in tl.static_range(ROUNDS):
        rank = tl.load(ranks + node, mask=inside, other=0)
        is_right = rank >= size // 2
        node = tl.where(is_right, size - 1 - rank, rank)
        left, right = load_pair(ordered, size, node, inside)
        if round == 0:
            empty = tl.where(is_right, right, left) == -float("inf")
        weight, score, _, _ = merge_pair(left, right, log_base, highest, PEAKED)
        share *= tl.where(is_right, 1 - weight, weight)
        own += tl.where(is_right, 1 << (ROUNDS - 1 - round), 0)
        ranks += size
        ordered += size
        size //= 2
    tl.store(nodes + document * padded_length + candidate, node, mask=inside)
    tl.store(member_index + document * padded_length + candidate, tl.where(empty, -1 - own, own), mask=inside)
    tl.store(weights + document * length + candidate, tl.where(empty, 0.0, share), mask=candidate < length)
    score = tl.where(score == -float("inf"), 0.0, score)
    tl.store(node_scores + document * k + node, score, mask=inside & (own == 0))


@triton.jit
def _slot_order_kernel(
    slot_scores,
    slots_of,
    winners,
    nodes,
    member_index,
    node_scores,
    padded_length,
    k,
    PRESERVE_ORDER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Store the slot of every winner of the last round of a document, by position or by number; empty ones last."""
    document = tl.program_id(0).to(tl.int64)
    nodes += document * padded_length
    member_index += document * padded_length
    by_position = True
    if not PRESERVE_ORDER:
        tokens = 0
        for start in range(0, padded_length, BLOCK):
            candidate = start + tl.arange(0, BLOCK)
            own = tl.load(member_index + candidate, mask=candidate < padded_length, other=-1)
            tokens += tl.sum((own >= 0).to(tl.int32), axis=0)
        by_position = tokens <= k
    before = 0
    for start in range(0, padded_length, BLOCK):
        candidate = start + tl.arange(0, BLOCK)
        inside = candidate < padded_length
        own = tl.load(member_index + candidate, mask=inside, other=1)
        node = tl.load(nodes + candidate, mask=inside, other=0)
        won = (own == 0).to(tl.int32)
        slot = tl.where((own == 0) & by_position, before + tl.cumsum(won, axis=0) - 1, node)
        before += tl.sum(won, axis=0)
        winner = inside & ((own == 0) | (own == -1))
        score = tl.load(node_scores + document * k + node, mask=winner, other=0.0)
        tl.store(slots_of + document * k + node, slot, mask=winner)
        tl.store(winners + document * k + slot, candidate, mask=winner)
        tl.store(slot_scores + document * k + slot, score, mask=winner)


@triton.jit
def _scatter_members_kernel(
    slots,
    members,
    filled,
    nodes,
    member_index,
    slots_of,
    winners,
    length,
    padded_length,
    k,
    group,
    HAS_FILLED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Scatter every candidate to its member index in its slot."""
    document = tl.program_id(0).to(tl.int64)
    candidate = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = candidate < padded_length
    node = tl.load(nodes + document * padded_length + candidate, mask=inside, other=0)
    own = tl.load(member_index + document * padded_length + candidate, mask=inside, other=0)
    slot = tl.load(slots_of + document * k + node, mask=inside, other=0)
    member, empty = candidate, own < 0
    if HAS_FILLED:
        # A bye or a padded member points to its slot's winner, those of an empty slot to the first slot's.
        own = tl.where(empty, -1 - own, own)
        winner = tl.load(winners + document * k + slot, mask=inside, other=0)
        first = tl.load(winners + document * k)
        is_empty = tl.load(member_index + document * padded_length + winner, mask=inside, other=0) < 0
        member = tl.minimum(tl.where(empty, tl.where(is_empty, first, winner), candidate), length - 1)
        tl.store(filled + document * padded_length + slot * group + own, (~empty).to(tl.int8), mask=inside)
    tl.store(members + document * padded_length + slot * group + own, member.to(tl.int64), mask=inside)
    tl.store(slots + document * length + candidate, tl.where(empty, 0, slot).to(tl.int64), mask=candidate < length)


def tournament(
    scores: Tensor, padding_mask: Tensor | None, padded_length: int, k: int, base: float, preserve_order: bool
) -> tuple[Tensor, ...]:
    """Hold the tournament: (B, n) float32, (B, n) bool or None -> the fields of ``TournamentResult``, with sorting.

    Base 0 is the plain softmax; ``filled`` has no documents where all are filled.
    """
    (batch, length), rounds, group = scores.shape, (padded_length // k).bit_length() - 1, padded_length // k
    slot_scores, slots, weights, members, filled = outputs = empty_outputs(scores, padding_mask, padded_length, k)
    if not batch:
        return outputs
    scores = scores.contiguous()
    nodes, member_index = (scores.new_empty(batch, padded_length, dtype=torch.int32) for _ in range(2))
    slots_of, winners = (scores.new_empty(batch, k, dtype=torch.int32) for _ in range(2))
    node_scores = torch.empty_like(slot_scores)
    with torch.cuda.device_of(scores):
        ranks, ordered = rank_rounds(scores, padding_mask, padded_length, k, base)
        blocks = triton.cdiv(padded_length, _BLOCK)
        constants = softmax_constants(base)
        walked = nodes, member_index, weights, node_scores, ranks, ordered
        sizes = length, padded_length, k
        _walk_kernel[batch, blocks](
            *walked, *sizes, *constants, ranks.size(1), ROUNDS=rounds, PEAKED=base > 0, BLOCK=_BLOCK
        )
        placed = slot_scores, slots_of, winners, nodes, member_index, node_scores
        block = min(max(triton.next_power_of_2(padded_length), 128), 4096)
        _slot_order_kernel[batch,](*placed, padded_length, k, PRESERVE_ORDER=preserve_order, BLOCK=block, num_warps=16)
        scattered = slots, members, filled, nodes, member_index, slots_of, winners
        _scatter_members_kernel[batch, blocks](*scattered, *sizes, group, HAS_FILLED=filled.size(0) > 0, BLOCK=_BLOCK)
    return outputs
