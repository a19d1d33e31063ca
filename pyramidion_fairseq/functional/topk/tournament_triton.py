"""Triton kernels of ``tournament``: float32 scores on CUDA, without atomics.

Many programs process each document in parallel. Each round takes two kernels. The first one sorts chunks of the
candidates, one chunk per program. The second one finds the rank of each candidate by a binary search in each sorted
chunk; ranks in the chunks add up. After the last round, each token is followed through the rounds to its slot. The
functions have the same arguments and results as their counterparts in ``tournament_torch``, against which they are
tested. Set TRITON_INTERPRET=1 before the first import of Triton to run them, slowly, on CPU tensors.

In this module, padding and byes have the score -inf. The score of a token is finite or NaN. A node is a candidate of
any round: a token, or the result of merging a pair.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tournament_ops import empty_outputs
from .tournament_triton_ranks import rank_rounds
from .triton_pairs import load_pair, merge_pair, softmax_constants

#: Number of candidates that one program processes.
_BLOCK_CANDIDATES = 256


@triton.jit
def _walk_kernel(
    # Pointers
    nodes_ptr,
    member_index_ptr,
    weights_ptr,
    node_scores_ptr,
    ranks_ptr,
    ordered_ptr,
    # Strides
    stride_ordered,
    # Sizes
    length,
    padded_length,
    k,
    # Scalars
    log_base,
    highest,
    # Constants
    ROUNDS: tl.constexpr,
    IS_PEAKED: tl.constexpr,
    BLOCK_CANDIDATES: tl.constexpr,
):
    """Follow candidates through the rounds to their node of the last round.

    The member index is 0 for the winner, and -1 - index for padding and byes.
    """
    pid_document = tl.program_id(0).to(tl.int64)
    pid_candidates = tl.program_id(1)
    candidate = pid_candidates * BLOCK_CANDIDATES + tl.arange(0, BLOCK_CANDIDATES)
    is_candidate = candidate < padded_length
    ranks_ptr += pid_document * stride_ordered
    ordered_ptr += pid_document * stride_ordered
    node = candidate
    member_index = tl.zeros([BLOCK_CANDIDATES], tl.int32)
    share = tl.full([BLOCK_CANDIDATES], 1.0, tl.float32)
    score = tl.zeros([BLOCK_CANDIDATES], tl.float32)
    is_empty = tl.zeros([BLOCK_CANDIDATES], tl.int1)
    size = padded_length
    for round in tl.static_range(ROUNDS):
        # (BLOCK_CANDIDATES,) of (B, size)
        rank = tl.load(ranks_ptr + node, mask=is_candidate, other=0)
        is_right = rank >= size // 2
        node = tl.where(is_right, size - 1 - rank, rank)
        # (BLOCK_CANDIDATES,) twice, of (B, size)
        left, right = load_pair(ordered_ptr, size, node, is_candidate)
        if round == 0:
            is_empty = tl.where(is_right, right, left) == -float("inf")
        weight, score, _, _ = merge_pair(left, right, log_base, highest, IS_PEAKED)
        share *= tl.where(is_right, 1 - weight, weight)
        member_index += tl.where(is_right, 1 << (ROUNDS - 1 - round), 0)
        ranks_ptr += size  # advance to the next round
        ordered_ptr += size
        size //= 2
    row = pid_document * padded_length + candidate
    tl.store(nodes_ptr + row, node, mask=is_candidate)
    tl.store(member_index_ptr + row, tl.where(is_empty, -1 - member_index, member_index), mask=is_candidate)
    tl.store(weights_ptr + pid_document * length + candidate, tl.where(is_empty, 0.0, share), mask=candidate < length)
    score = tl.where(score == -float("inf"), 0.0, score)  # the slot is empty
    tl.store(node_scores_ptr + pid_document * k + node, score, mask=is_candidate & (member_index == 0))


@triton.jit
def _slot_order_kernel(
    # Pointers
    slot_scores_ptr,
    slot_of_node_ptr,
    winners_ptr,
    nodes_ptr,
    member_index_ptr,
    node_scores_ptr,
    # Sizes
    padded_length,
    k,
    # Constants
    PRESERVE_ORDER: tl.constexpr,
    BLOCK_CANDIDATES: tl.constexpr,
):
    """Order the slots of one document by their winners' positions, or by node number; empty slots are last."""
    pid_document = tl.program_id(0).to(tl.int64)
    nodes_ptr += pid_document * padded_length
    member_index_ptr += pid_document * padded_length
    # A document with at most k tokens keeps its order.
    by_position = True
    if not PRESERVE_ORDER:
        num_tokens = 0
        for start in range(0, padded_length, BLOCK_CANDIDATES):
            candidate = start + tl.arange(0, BLOCK_CANDIDATES)
            # (BLOCK_CANDIDATES,) of (B, padded_length)
            member_index = tl.load(member_index_ptr + candidate, mask=candidate < padded_length, other=-1)
            num_tokens += tl.sum((member_index >= 0).to(tl.int32), axis=0)
        by_position = num_tokens <= k
    num_winners = 0
    for start in range(0, padded_length, BLOCK_CANDIDATES):
        candidate = start + tl.arange(0, BLOCK_CANDIDATES)
        is_candidate = candidate < padded_length
        # (BLOCK_CANDIDATES,) twice, of (B, padded_length)
        member_index = tl.load(member_index_ptr + candidate, mask=is_candidate, other=1)
        node = tl.load(nodes_ptr + candidate, mask=is_candidate, other=0)
        has_won = (member_index == 0).to(tl.int32)
        rank = num_winners + tl.cumsum(has_won, axis=0) - 1
        num_winners += tl.sum(has_won, axis=0)
        # The winner of a slot without tokens has the member index -1, and the slot keeps the number of its node, which
        # is high.
        slot = tl.where((member_index == 0) & by_position, rank, node)
        is_first = is_candidate & ((member_index == 0) | (member_index == -1))
        # (BLOCK_CANDIDATES,) of (B, k)
        score = tl.load(node_scores_ptr + pid_document * k + node, mask=is_first, other=0.0)
        tl.store(slot_of_node_ptr + pid_document * k + node, slot, mask=is_first)
        tl.store(winners_ptr + pid_document * k + slot, candidate, mask=is_first)
        tl.store(slot_scores_ptr + pid_document * k + slot, score, mask=is_first)


@triton.jit
def _scatter_members_kernel(
    # Pointers
    slots_ptr,
    members_ptr,
    filled_ptr,
    nodes_ptr,
    member_index_ptr,
    slot_of_node_ptr,
    winners_ptr,
    # Sizes
    length,
    padded_length,
    k,
    group,
    # Constants
    HAS_FILLED: tl.constexpr,
    BLOCK_CANDIDATES: tl.constexpr,
):
    """Store each candidate at its member index in its slot, and store each token's slot."""
    pid_document = tl.program_id(0).to(tl.int64)
    pid_candidates = tl.program_id(1)
    candidate = pid_candidates * BLOCK_CANDIDATES + tl.arange(0, BLOCK_CANDIDATES)
    is_candidate = candidate < padded_length
    row_start = pid_document * padded_length
    # (BLOCK_CANDIDATES,) twice, of (B, padded_length); then of (B, k)
    node = tl.load(nodes_ptr + row_start + candidate, mask=is_candidate, other=0)
    member_index = tl.load(member_index_ptr + row_start + candidate, mask=is_candidate, other=0)
    slot = tl.load(slot_of_node_ptr + pid_document * k + node, mask=is_candidate, other=0)
    member = candidate
    is_empty = member_index < 0
    if HAS_FILLED:
        # Byes and padding point to the winner of their slot, or to that of the first slot if their slot is empty.
        member_index = tl.where(is_empty, -1 - member_index, member_index)
        # (BLOCK_CANDIDATES,) of (B, k); one of (B, k); (BLOCK_CANDIDATES,) of (B, padded_length)
        winner = tl.load(winners_ptr + pid_document * k + slot, mask=is_candidate, other=0)
        first_winner = tl.load(winners_ptr + pid_document * k)
        is_empty_slot = tl.load(member_index_ptr + row_start + winner, mask=is_candidate, other=0) < 0
        stand_in = tl.where(is_empty_slot, first_winner, winner)
        member = tl.minimum(tl.where(is_empty, stand_in, candidate), length - 1)
        is_filled = (~is_empty).to(tl.int8)
        tl.store(filled_ptr + row_start + slot * group + member_index, is_filled, mask=is_candidate)
    tl.store(members_ptr + row_start + slot * group + member_index, member.to(tl.int64), mask=is_candidate)
    slot = tl.where(is_empty, 0, slot).to(tl.int64)
    tl.store(slots_ptr + pid_document * length + candidate, slot, mask=candidate < length)


def tournament(
    scores: Tensor,
    padding_mask: Tensor | None,
    padded_length: int,
    k: int,
    base: float | None,
    sort: bool,
    preserve_order: bool,
) -> tuple[Tensor, ...]:
    """Run the tournament: (B, n) float32, (B, n) bool or None -> the fields of ``TournamentResult``.

    ``base`` None is the plain softmax. ``filled`` has batch size 0 if all members are filled.
    """
    batch, length = scores.shape
    outputs = empty_outputs(scores, padding_mask, padded_length, k)
    if not batch:
        return outputs
    slot_scores, slots, weights, members, filled = outputs
    slot_of_node = scores.new_empty(batch, k, dtype=torch.int32)
    winners = torch.empty_like(slot_of_node)
    with torch.cuda.device_of(scores):
        nodes, member_index, node_scores = _walk(
            scores.contiguous(), padding_mask, weights, padded_length, k, base, sort
        )
        _slot_order_kernel[batch,](
            slot_scores,
            slot_of_node,
            winners,
            nodes,
            member_index,
            node_scores,
            padded_length,
            k,
            PRESERVE_ORDER=preserve_order,
            BLOCK_CANDIDATES=min(max(triton.next_power_of_2(padded_length), 128), 4096),
            num_warps=16,
        )
        _scatter_members_kernel[batch, triton.cdiv(padded_length, _BLOCK_CANDIDATES)](
            slots,
            members,
            filled,
            nodes,
            member_index,
            slot_of_node,
            winners,
            length,
            padded_length,
            k,
            padded_length // k,
            HAS_FILLED=filled.size(0) > 0,
            BLOCK_CANDIDATES=_BLOCK_CANDIDATES,
        )
    return outputs


def _walk(
    scores: Tensor,
    padding_mask: Tensor | None,
    weights: Tensor,
    padded_length: int,
    k: int,
    base: float | None,
    sort: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Order the candidates of every round, and follow each candidate through the rounds.

    Args:
        scores, padding_mask: (B, n).
        weights: (B, n), overwritten with each token's weight.
        padded_length, k, base, sort: see :func:`tournament`.

    Returns:
        (B, padded_length) int32 last-round node of each candidate; (B, padded_length) int32 member index in it, see
        ``_walk_kernel``; (B, k) scores of the nodes.
    """
    batch, length = scores.shape
    nodes = scores.new_empty(batch, padded_length, dtype=torch.int32)
    member_index = torch.empty_like(nodes)
    node_scores = scores.new_empty(batch, k)
    ranks, ordered = rank_rounds(scores, padding_mask, padded_length, k, base, sort)
    _walk_kernel[batch, triton.cdiv(padded_length, _BLOCK_CANDIDATES)](
        nodes,
        member_index,
        weights,
        node_scores,
        ranks,
        ordered,
        ranks.size(1),
        length,
        padded_length,
        k,
        *softmax_constants(base),
        ROUNDS=(padded_length // k).bit_length() - 1,
        IS_PEAKED=base is not None,
        BLOCK_CANDIDATES=_BLOCK_CANDIDATES,
    )
    return nodes, member_index, node_scores
