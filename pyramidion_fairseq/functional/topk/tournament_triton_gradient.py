"""Triton kernel of the gradient of ``tournament_triton``: every slot is a binary tree of its own."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_pairs import merge_pair, softmax_constants


@triton.jit
def _gradient_kernel(
    d_scores,
    d_slot_scores,
    d_weights,
    scores,
    members,
    filled,
    score_of,
    d_share_of,
    share_of,
    d_of,
    count,
    length,
    k,
    log_base,
    highest,
    HAS_FILLED: tl.constexpr,
    PEAKED: tl.constexpr,
    ROUNDS: tl.constexpr,
    SLOTS: tl.constexpr,
    NODES: tl.constexpr,
):
    """Compute the gradients of the scores of some slots, each a tree in memory as a heap is.

    Node x < 2**ROUNDS is merged from nodes x + h and x + 2 * h, where h, how many nodes its level has, is its first
    one. Each slot has four trees: scores, gradients of the shares, shares, gradients of the scores.
    """
    group: tl.constexpr = 1 << ROUNDS
    slots = tl.program_id(0).to(tl.int64) * SLOTS
    # Leaves: the members' scores and the gradients of their weights.
    for start in range(0, SLOTS * group, NODES):
        slot, place, inside = _nodes(slots, start, group, count, SLOTS, NODES)
        node = slot * 2 * group + group + place
        token, taken = _tokens(members, filled, slot, place, inside, length, k, group, HAS_FILLED)
        _store_leaves(score_of, d_share_of, scores, d_weights, node, token, inside, taken)
    tl.debug_barrier()
    # From the leaves to the slot.
    for round in tl.static_range(1, ROUNDS + 1):
        nodes = group >> round
        for start in range(0, SLOTS * nodes, NODES):
            slot, place, inside = _nodes(slots, start, nodes, count, SLOTS, NODES)
            node = slot * 2 * group + nodes + place
            _merge_children(score_of, d_share_of, node, nodes, inside, log_base, highest, PEAKED)
            if round == ROUNDS:
                tl.store(share_of + node, 1.0, mask=inside)
                tl.store(d_of + node, tl.load(d_slot_scores + slot, mask=inside, other=0.0), mask=inside)
        tl.debug_barrier()
    # Back to the leaves.
    for level in tl.static_range(ROUNDS):
        nodes = 1 << level
        for start in range(0, SLOTS * nodes, NODES):
            slot, place, inside = _nodes(slots, start, nodes, count, SLOTS, NODES)
            node = slot * 2 * group + nodes + place
            _differentiate_pair(score_of, d_share_of, share_of, d_of, node, nodes, inside, log_base, highest, PEAKED)
        tl.debug_barrier()
    for start in range(0, SLOTS * group, NODES):
        slot, place, inside = _nodes(slots, start, group, count, SLOTS, NODES)
        token, taken = _tokens(members, filled, slot, place, inside, length, k, group, HAS_FILLED)
        node = slot * 2 * group + group + place
        tl.store(d_scores + token, tl.load(d_of + node, mask=inside, other=0.0), mask=taken)


@triton.jit
def _store_leaves(score_of, d_share_of, scores, d_weights, node, token, inside, taken):
    """Store the scores of some members and the gradients of their weights."""
    tl.store(score_of + node, tl.load(scores + token, mask=taken, other=-float("inf")), mask=inside)
    tl.store(d_share_of + node, tl.load(d_weights + token, mask=taken, other=0.0), mask=inside)


@triton.jit
def _merge_children(score_of, d_share_of, node, nodes, inside, log_base, highest, PEAKED: tl.constexpr):
    """Store the scores of some nodes, merged from two, and the gradients of their shares."""
    left, right = _load_children(score_of, node, nodes, inside)
    d_left, d_right = _load_children(d_share_of, node, nodes, inside)
    weight, score, _, _ = merge_pair(left, right, log_base, highest, PEAKED)
    tl.store(score_of + node, score, mask=inside)
    tl.store(d_share_of + node, d_right + weight * (d_left - d_right), mask=inside)


@triton.jit
def _differentiate_pair(
    score_of, d_share_of, share_of, d_of, node, nodes, inside, log_base, highest, PEAKED: tl.constexpr
):
    """Store the shares and the gradients of the two that some nodes were merged from."""
    left, right = _load_children(score_of, node, nodes, inside)
    d_left, d_right = _load_children(d_share_of, node, nodes, inside)
    weight, _, strong, weak = merge_pair(left, right, log_base, highest, PEAKED)
    share = tl.load(share_of + node, mask=inside, other=0.0)
    d = tl.load(d_of + node, mask=inside, other=0.0)
    alone = right == -float("inf")  # who met nobody
    d_strength = tl.where(alone, 0.0, (share * (d_left - d_right) + d * (left - right)) * weight * (1 - weight))
    of_left, of_right = d_strength, -d_strength
    if PEAKED:  # the derivative of base**score, as it is bounded
        of_left *= tl.where(left > highest, 0.0, log_base * strong)
        of_right *= tl.where(right > highest, 0.0, log_base * weak)
    of_left, of_right = d * weight + of_left, d * (1 - weight) + of_right
    tl.store(share_of + node + nodes, share * weight, mask=inside)
    tl.store(share_of + node + 2 * nodes, share * (1 - weight), mask=inside)
    tl.store(d_of + node + nodes, tl.where(alone, d, of_left), mask=inside)
    tl.store(d_of + node + 2 * nodes, tl.where(alone, 0.0, of_right), mask=inside)


@triton.jit
def _nodes(slots, start, nodes, count, SLOTS: tl.constexpr, NODES: tl.constexpr):
    """Return some nodes of a level with so many ``nodes`` for each slot: slot, number in the level, whether it is."""
    number = start + tl.arange(0, NODES)
    slot = slots + number // nodes
    return slot, number % nodes, (number < SLOTS * nodes) & (slot < count)


@triton.jit
def _tokens(members, filled, slot, place, inside, length, k, group: tl.constexpr, HAS_FILLED: tl.constexpr):
    """Return the members at some places of slots, among the tokens of all documents, and whether there is one."""
    member = slot * group + place
    token = slot // k * length + tl.load(members + member, mask=inside, other=0)
    if HAS_FILLED:
        inside &= tl.load(filled + member, mask=inside, other=0) != 0
    return token, inside


@triton.jit
def _load_children(tree, node, nodes, inside):
    """Load the two numbers of a tree that a node was merged from."""
    left = tl.load(tree + node + nodes, mask=inside, other=0.0)
    return left, tl.load(tree + node + 2 * nodes, mask=inside, other=0.0)


def tournament_backward(
    d_slot_scores: Tensor, d_weights: Tensor, scores: Tensor, members: Tensor, filled: Tensor, base: float
) -> Tensor:
    """Return the gradient of the scores: (B, k), (B, n), (B, n), (B, k, g), (B or 0, k, g) -> (B, n)."""
    batch, k, group = members.shape
    d_scores = torch.zeros_like(d_weights, memory_format=torch.contiguous_format)  # and so it stays on padding
    if batch:
        trees = scores.new_empty(4, batch * k, 2 * group)
        slots = max(512 // group, 1)
        with torch.cuda.device_of(scores):
            _gradient_kernel[triton.cdiv(batch * k, slots),](
                d_scores,
                d_slot_scores.contiguous(),
                d_weights.contiguous(),
                scores.contiguous(),
                members.contiguous(),
                filled.contiguous(),
                *trees,
                batch * k,
                scores.size(1),
                k,
                *softmax_constants(base),
                HAS_FILLED=filled.size(0) > 0,
                PEAKED=base > 0,
                ROUNDS=group.bit_length() - 1,
                SLOTS=slots,
                NODES=512,
            )
    return d_scores
