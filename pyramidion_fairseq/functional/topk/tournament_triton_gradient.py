"""Triton kernel of the gradient of ``tournament_triton``. Every slot is a separate binary tree.

Trees are stored like heaps, with 2 g numbers per slot: the root, which is the slot, is node 1, and the leaves, which
are the members, are nodes g to 2 g - 1. A level with h nodes begins at node h. Its node x was merged from the nodes x
+ h and x + 2 h. Each slot has four trees: scores, gradients of shares, shares, and gradients of scores.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_pairs import merge_pair, softmax_constants

#: Number of nodes that one program processes at a time. Slots with few members are processed together.
_BLOCK_NODES = 512


@triton.jit
def _gradient_kernel(
    # Pointers
    d_scores_ptr,
    d_slot_scores_ptr,
    d_weights_ptr,
    scores_ptr,
    members_ptr,
    filled_ptr,
    tree_scores_ptr,
    tree_d_shares_ptr,
    tree_shares_ptr,
    tree_d_scores_ptr,
    # Sizes
    num_slots,
    length,
    k,
    # Scalars
    log_base,
    highest,
    # Constants
    HAS_FILLED: tl.constexpr,
    IS_PEAKED: tl.constexpr,
    ROUNDS: tl.constexpr,
    BLOCK_SLOTS: tl.constexpr,
    BLOCK_NODES: tl.constexpr,
):
    """Compute the gradients of the scores of the members of BLOCK_SLOTS slots."""
    group: tl.constexpr = 1 << ROUNDS
    pid_slots = tl.program_id(0).to(tl.int64)
    # Leaves: scores of the members, and gradients of their weights.
    for start in range(0, BLOCK_SLOTS * group, BLOCK_NODES):
        slot, index, node, mask = _level_nodes(pid_slots, start, group, num_slots, group, BLOCK_SLOTS, BLOCK_NODES)
        token, is_token = _load_tokens(members_ptr, filled_ptr, slot, index, mask, length, k, group, HAS_FILLED)
        _store_leaves(tree_scores_ptr, tree_d_shares_ptr, scores_ptr, d_weights_ptr, node, token, mask, is_token)
    tl.debug_barrier()
    # From the leaves to the root.
    for round in tl.static_range(1, ROUNDS + 1):
        num_nodes = group >> round
        for start in range(0, BLOCK_SLOTS * num_nodes, BLOCK_NODES):
            _, _, node, mask = _level_nodes(pid_slots, start, num_nodes, num_slots, group, BLOCK_SLOTS, BLOCK_NODES)
            _merge_children(tree_scores_ptr, tree_d_shares_ptr, node, num_nodes, mask, log_base, highest, IS_PEAKED)
        tl.debug_barrier()
    # Roots: shares of 1, and gradients of the slot scores.
    for start in range(0, BLOCK_SLOTS, BLOCK_NODES):
        slot, _, node, mask = _level_nodes(pid_slots, start, 1, num_slots, group, BLOCK_SLOTS, BLOCK_NODES)
        _store_roots(tree_shares_ptr, tree_d_scores_ptr, d_slot_scores_ptr, node, slot, mask)
    tl.debug_barrier()
    # Back to the leaves.
    for level in tl.static_range(ROUNDS):
        num_nodes = 1 << level
        for start in range(0, BLOCK_SLOTS * num_nodes, BLOCK_NODES):
            _, _, node, mask = _level_nodes(pid_slots, start, num_nodes, num_slots, group, BLOCK_SLOTS, BLOCK_NODES)
            _differentiate_pair(tree_scores_ptr, tree_d_shares_ptr, tree_shares_ptr, tree_d_scores_ptr,
                                node, num_nodes, mask, log_base, highest, IS_PEAKED)  # fmt: skip
        tl.debug_barrier()
    for start in range(0, BLOCK_SLOTS * group, BLOCK_NODES):
        slot, index, node, mask = _level_nodes(pid_slots, start, group, num_slots, group, BLOCK_SLOTS, BLOCK_NODES)
        token, is_token = _load_tokens(members_ptr, filled_ptr, slot, index, mask, length, k, group, HAS_FILLED)
        # (BLOCK_NODES,) of (B * k, 2 g)
        tl.store(d_scores_ptr + token, tl.load(tree_d_scores_ptr + node, mask=mask, other=0.0), mask=is_token)


@triton.jit
def _store_leaves(tree_scores_ptr, tree_d_shares_ptr, scores_ptr, d_weights_ptr, node, token, mask, is_token):
    """Store the scores of members, and the gradients of their weights, at the leaves."""
    # (BLOCK_NODES,) of (B, n), each
    score = tl.load(scores_ptr + token, mask=is_token, other=-float("inf"))
    d_weight = tl.load(d_weights_ptr + token, mask=is_token, other=0.0)
    tl.store(tree_scores_ptr + node, score, mask=mask)
    tl.store(tree_d_shares_ptr + node, d_weight, mask=mask)


@triton.jit
def _store_roots(tree_shares_ptr, tree_d_scores_ptr, d_slot_scores_ptr, node, slot, mask):
    """Store a share of 1, and the gradients of the slot scores, at the roots."""
    # (BLOCK_NODES,) of (B, k)
    d_slot_score = tl.load(d_slot_scores_ptr + slot, mask=mask, other=0.0)
    tl.store(tree_shares_ptr + node, 1.0, mask=mask)
    tl.store(tree_d_scores_ptr + node, d_slot_score, mask=mask)


@triton.jit
def _merge_children(
    tree_scores_ptr, tree_d_shares_ptr, node, num_nodes, mask, log_base, highest, IS_PEAKED: tl.constexpr
):
    """Store the scores of nodes, merged from their two children, and the gradients of their shares."""
    # (BLOCK_NODES,) of (B * k, 2 g), each
    left, right = _load_children(tree_scores_ptr, node, num_nodes, mask)
    d_left, d_right = _load_children(tree_d_shares_ptr, node, num_nodes, mask)
    weight, score, _, _ = merge_pair(left, right, log_base, highest, IS_PEAKED)
    tl.store(tree_scores_ptr + node, score, mask=mask)
    tl.store(tree_d_shares_ptr + node, d_right + weight * (d_left - d_right), mask=mask)


@triton.jit
def _differentiate_pair(
    tree_scores_ptr,
    tree_d_shares_ptr,
    tree_shares_ptr,
    tree_d_scores_ptr,
    node,
    num_nodes,
    mask,
    log_base,
    highest,
    IS_PEAKED: tl.constexpr,
):
    """Store the shares of the two children of each node, and the gradients of their scores."""
    # (BLOCK_NODES,) of (B * k, 2 g), each
    left, right = _load_children(tree_scores_ptr, node, num_nodes, mask)
    d_left, d_right = _load_children(tree_d_shares_ptr, node, num_nodes, mask)
    share = tl.load(tree_shares_ptr + node, mask=mask, other=0.0)
    d_score = tl.load(tree_d_scores_ptr + node, mask=mask, other=0.0)
    weight, _, strength_left, strength_right = merge_pair(left, right, log_base, highest, IS_PEAKED)
    is_bye = right == -float("inf")
    # Gradient through the weight, on which the shares and the score of the pair depend.
    d_weight = share * (d_left - d_right) + d_score * (left - right)
    of_left = tl.where(is_bye, 0.0, d_weight * weight * (1 - weight))
    of_right = -of_left
    if IS_PEAKED:  # derivative of base**score, which is constant above `highest`
        of_left *= tl.where(left > highest, 0.0, log_base * strength_left)
        of_right *= tl.where(right > highest, 0.0, log_base * strength_right)
    # Direct gradient: the score of the pair is a weighted mean of both.
    of_left = d_score * weight + of_left
    of_right = d_score * (1 - weight) + of_right
    tl.store(tree_shares_ptr + node + num_nodes, share * weight, mask=mask)
    tl.store(tree_shares_ptr + node + 2 * num_nodes, share * (1 - weight), mask=mask)
    tl.store(tree_d_scores_ptr + node + num_nodes, tl.where(is_bye, d_score, of_left), mask=mask)
    tl.store(tree_d_scores_ptr + node + 2 * num_nodes, tl.where(is_bye, 0.0, of_right), mask=mask)


@triton.jit
def _level_nodes(
    pid_slots,
    start,
    num_nodes,
    num_slots,
    group: tl.constexpr,
    BLOCK_SLOTS: tl.constexpr,
    BLOCK_NODES: tl.constexpr,
):
    """Return BLOCK_NODES nodes of a level that has ``num_nodes`` nodes per slot.

    Returns:
        The slots, the indices in the level, the indices in the trees of all slots, and a mask of the nodes that exist.
    """
    number = start + tl.arange(0, BLOCK_NODES)
    slot = pid_slots * BLOCK_SLOTS + number // num_nodes
    index = number % num_nodes
    mask = (number < BLOCK_SLOTS * num_nodes) & (slot < num_slots)
    return slot, index, slot * 2 * group + num_nodes + index, mask


@triton.jit
def _load_tokens(
    members_ptr,
    filled_ptr,
    slot,
    member_index,
    mask,
    length,
    k,
    group: tl.constexpr,
    HAS_FILLED: tl.constexpr,
):
    """Load the members of slots as indices among the tokens of all documents, with a mask of those that are tokens."""
    member = slot * group + member_index
    # (BLOCK_NODES,) of (B, k, g)
    token = slot // k * length + tl.load(members_ptr + member, mask=mask, other=0)
    if HAS_FILLED:
        # (BLOCK_NODES,) of (B, k, g)
        mask &= tl.load(filled_ptr + member, mask=mask, other=0) != 0
    return token, mask


@triton.jit
def _load_children(tree_ptr, node, num_nodes, mask):
    """Load the values of the two children of each node."""
    left = tl.load(tree_ptr + node + num_nodes, mask=mask, other=0.0)
    right = tl.load(tree_ptr + node + 2 * num_nodes, mask=mask, other=0.0)
    return left, right


def tournament_backward(
    d_slot_scores: Tensor, d_weights: Tensor, scores: Tensor, members: Tensor, filled: Tensor, base: float | None
) -> Tensor:
    """Compute the gradient of the scores: (B, k), (B, n), (B, n), (B, k, g), (B or 0, k, g) -> (B, n)."""
    batch, k, group = members.shape
    d_scores = torch.zeros_like(d_weights, memory_format=torch.contiguous_format)  # stays zero on padding
    if not batch:
        return d_scores
    trees = scores.new_empty(4, batch * k, 2 * group)
    block_slots = max(_BLOCK_NODES // group, 1)
    with torch.cuda.device_of(scores):
        _gradient_kernel[triton.cdiv(batch * k, block_slots),](
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
            IS_PEAKED=base is not None,
            ROUNDS=group.bit_length() - 1,
            BLOCK_SLOTS=block_slots,
            BLOCK_NODES=_BLOCK_NODES,
        )
    return d_scores
