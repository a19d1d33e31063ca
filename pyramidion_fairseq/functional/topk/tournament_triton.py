"""Triton kernels of ``tournament``: float32 scores on CUDA, sorted before every round. No atomics.

Each document is worked on by many programs at once. A round takes two kernels: programs sort a chunk of the candidates
each; then every candidate finds its rank by a binary search in each chunk, as ranks in sorted chunks add up. After the
last round, every token walks from round to round to its slot. Backward, every slot is a tree of its own. The functions
take and return what their counterparts in ``tournament`` do, whose numbers they are tested against. With
TRITON_INTERPRET=1 in the environment before the first import of Triton they run on CPU tensors, slowly.

An empty place, which is padding or a bye, has the score -inf in here; a token's score is finite, or NaN.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tournament import highest_score, make_room

_NOBODY = tl.constexpr(0x7FFFFFFFFFFFFFFF)  # a key after those of all candidates


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
def _strength(score, log_base, highest, PEAKED: tl.constexpr):
    """What the softmax over a pair is taken of: base**score, or the score itself."""
    if PEAKED:
        score = tl.exp(tl.where(score > highest, highest, score) * log_base)  # a minimum would drop NaN
    return score


@triton.jit
def _meet(left, right, log_base, highest, PEAKED: tl.constexpr):
    """A pair of candidates: the weight of the first, the score of what comes of it, and their strengths."""
    alone = right == -float("inf")
    other = tl.where(alone, 0.0, right)
    mine = tl.where(left == -float("inf"), 0.0, left)
    strong, weak = _strength(mine, log_base, highest, PEAKED), _strength(other, log_base, highest, PEAKED)
    weight = tl.where(alone, 1.0, 1 / (1 + tl.exp(weak - strong)))
    mixed = tl.where(weight < 0.5, other + weight * (mine - other), mine - (mine - other) * (1 - weight))
    return weight, tl.where(alone, left, mixed), strong, weak


@triton.jit
def _load_pair(ordered, size, i, inside):
    """Scores of the candidates number i and ``size - 1 - i`` of a round."""
    left = tl.load(ordered + i, mask=inside, other=0.0)
    return left, tl.load(ordered + size - 1 - i, mask=inside, other=0.0)


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
    """One chunk of the ``size`` candidates of a round, sorted: in the first, of the scores; later, of what came of the
    pairs of the round before, whose scores in order are ``ordered``."""
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
        left, right = _load_pair(ordered + document * stride_ordered, 2 * size, number, inside)
        _, score, _, _ = _meet(left, right, log_base, highest, PEAKED)
    key = tl.where(inside, _key(score, number), _NOBODY)
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
    """The ranks of some candidates among all of a round, whose chunks are sorted, and their scores in order. CHUNK is
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
            other = tl.load(keys + chunk * CHUNK + before + jump - 1, mask=chunk < chunks, other=_NOBODY)
            before += tl.where(other < key[None, :], jump, 0)
            jump = (jump + 1) // 2
        rank += tl.sum(before, axis=0)
    inside = key != _NOBODY
    number = (key & 0xFFFFFFFF).to(tl.int32)
    tl.store(ranks + document * stride_ordered + number, rank, mask=inside)
    tl.store(ordered + document * stride_ordered + rank, _score(key), mask=inside)


@triton.jit
def _walk_kernel(
    nodes,
    places_of,
    weights,
    node_scores,
    ranks,
    ordered,
    length,
    places,
    k,
    log_base,
    highest,
    stride_ordered,
    ROUNDS: tl.constexpr,
    PEAKED: tl.constexpr,
    PLACES: tl.constexpr,
):
    """Every place goes up from round to round: to which winner of the last round, to which place of its slot (0 is
    the winner's own), with what weight."""
    document = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * PLACES + tl.arange(0, PLACES)
    inside = place < places
    ranks += document * stride_ordered
    ordered += document * stride_ordered
    node, own, share = place, tl.zeros([PLACES], tl.int32), tl.full([PLACES], 1.0, tl.float32)
    empty = tl.zeros([PLACES], tl.int1)
    score = tl.zeros([PLACES], tl.float32)
    size = places
    for round in tl.static_range(ROUNDS):
        rank = tl.load(ranks + node, mask=inside, other=0)
        is_right = rank >= size // 2
        node = tl.where(is_right, size - 1 - rank, rank)
        left, right = _load_pair(ordered, size, node, inside)
        if round == 0:
            empty = tl.where(is_right, right, left) == -float("inf")
        weight, score, _, _ = _meet(left, right, log_base, highest, PEAKED)
        share *= tl.where(is_right, 1 - weight, weight)
        own += tl.where(is_right, 1 << (ROUNDS - 1 - round), 0)
        ranks += size
        ordered += size
        size //= 2
    tl.store(nodes + document * places + place, node, mask=inside)
    tl.store(places_of + document * places + place, tl.where(empty, -1 - own, own), mask=inside)
    tl.store(weights + document * length + place, tl.where(empty, 0.0, share), mask=place < length)
    score = tl.where(score == -float("inf"), 0.0, score)
    tl.store(node_scores + document * k + node, score, mask=inside & (own == 0))


@triton.jit
def _line_up_kernel(
    slot_scores,
    slots_of,
    winners,
    nodes,
    places_of,
    node_scores,
    places,
    k,
    PRESERVE_ORDER: tl.constexpr,
    PLACES: tl.constexpr,
):
    """The slot of every winner of the last round of a document, by position or by number; empty ones last."""
    document = tl.program_id(0).to(tl.int64)
    nodes += document * places
    places_of += document * places
    by_position = True
    if not PRESERVE_ORDER:
        tokens = 0
        for start in range(0, places, PLACES):
            place = start + tl.arange(0, PLACES)
            own = tl.load(places_of + place, mask=place < places, other=-1)
            tokens += tl.sum((own >= 0).to(tl.int32), axis=0)
        by_position = tokens <= k
    before = 0
    for start in range(0, places, PLACES):
        place = start + tl.arange(0, PLACES)
        inside = place < places
        own = tl.load(places_of + place, mask=inside, other=1)
        node = tl.load(nodes + place, mask=inside, other=0)
        won = (own == 0).to(tl.int32)
        slot = tl.where((own == 0) & by_position, before + tl.cumsum(won, axis=0) - 1, node)
        before += tl.sum(won, axis=0)
        winner = inside & ((own == 0) | (own == -1))
        score = tl.load(node_scores + document * k + node, mask=winner, other=0.0)
        tl.store(slots_of + document * k + node, slot, mask=winner)
        tl.store(winners + document * k + slot, place, mask=winner)
        tl.store(slot_scores + document * k + slot, score, mask=winner)


@triton.jit
def _seat_kernel(
    slots,
    members,
    filled,
    nodes,
    places_of,
    slots_of,
    winners,
    length,
    places,
    k,
    group,
    HAS_FILLED: tl.constexpr,
    PLACES: tl.constexpr,
):
    """Every place takes its seat among the members of its slot."""
    document = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * PLACES + tl.arange(0, PLACES)
    inside = place < places
    node = tl.load(nodes + document * places + place, mask=inside, other=0)
    own = tl.load(places_of + document * places + place, mask=inside, other=0)
    slot = tl.load(slots_of + document * k + node, mask=inside, other=0)
    member, empty = place, own < 0
    if HAS_FILLED:
        # A bye or a padded member points to its slot's winner, those of an empty slot to the first slot's.
        own = tl.where(empty, -1 - own, own)
        winner = tl.load(winners + document * k + slot, mask=inside, other=0)
        first = tl.load(winners + document * k)
        is_empty = tl.load(places_of + document * places + winner, mask=inside, other=0) < 0
        member = tl.minimum(tl.where(empty, tl.where(is_empty, first, winner), place), length - 1)
        tl.store(filled + document * places + slot * group + own, (~empty).to(tl.int8), mask=inside)
    tl.store(members + document * places + slot * group + own, member.to(tl.int64), mask=inside)
    tl.store(slots + document * length + place, tl.where(empty, 0, slot).to(tl.int64), mask=place < length)


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
    """Some slots, each a tree in memory as a heap is: node x < 2**ROUNDS is what comes of nodes x + h and x + 2 * h,
    where h is how many nodes its level has, and its first one. There are four trees for each slot: of the scores, the
    gradients of the shares, the shares, and the gradients of the scores."""
    group: tl.constexpr = 1 << ROUNDS
    slots = tl.program_id(0).to(tl.int64) * SLOTS
    for start in range(0, SLOTS * group, NODES):
        slot, place, inside = _nodes(slots, start, group, count, SLOTS, NODES)
        token, taken = _tokens(members, filled, slot, place, inside, length, k, group, HAS_FILLED)
        node = slot * 2 * group + group + place
        tl.store(score_of + node, tl.load(scores + token, mask=taken, other=-float("inf")), mask=inside)
        tl.store(d_share_of + node, tl.load(d_weights + token, mask=taken, other=0.0), mask=inside)
    tl.debug_barrier()
    for round in tl.static_range(1, ROUNDS + 1):
        nodes = group >> round
        for start in range(0, SLOTS * nodes, NODES):
            slot, place, inside = _nodes(slots, start, nodes, count, SLOTS, NODES)
            node = slot * 2 * group + nodes + place
            left, right = _load_children(score_of, node, nodes, inside)
            d_left, d_right = _load_children(d_share_of, node, nodes, inside)
            weight, score, _, _ = _meet(left, right, log_base, highest, PEAKED)
            tl.store(score_of + node, score, mask=inside)
            tl.store(d_share_of + node, d_right + weight * (d_left - d_right), mask=inside)
            if round == ROUNDS:
                tl.store(share_of + node, 1.0, mask=inside)
                tl.store(d_of + node, tl.load(d_slot_scores + slot, mask=inside, other=0.0), mask=inside)
        tl.debug_barrier()
    for level in tl.static_range(ROUNDS):
        nodes = 1 << level
        for start in range(0, SLOTS * nodes, NODES):
            slot, place, inside = _nodes(slots, start, nodes, count, SLOTS, NODES)
            node = slot * 2 * group + nodes + place
            left, right = _load_children(score_of, node, nodes, inside)
            d_left, d_right = _load_children(d_share_of, node, nodes, inside)
            weight, _, strong, weak = _meet(left, right, log_base, highest, PEAKED)
            share = tl.load(share_of + node, mask=inside, other=0.0)
            d = tl.load(d_of + node, mask=inside, other=0.0)
            alone = right == -float("inf")  # who met nobody
            d_strength = tl.where(
                alone, 0.0, (share * (d_left - d_right) + d * (left - right)) * weight * (1 - weight)
            )
            of_left, of_right = d_strength, -d_strength
            if PEAKED:  # the derivative of base**score, as it is bounded
                of_left *= tl.where(left > highest, 0.0, log_base * strong)
                of_right *= tl.where(right > highest, 0.0, log_base * weak)
            of_left, of_right = d * weight + of_left, d * (1 - weight) + of_right
            tl.store(share_of + node + nodes, share * weight, mask=inside)
            tl.store(share_of + node + 2 * nodes, share * (1 - weight), mask=inside)
            tl.store(d_of + node + nodes, tl.where(alone, d, of_left), mask=inside)
            tl.store(d_of + node + 2 * nodes, tl.where(alone, 0.0, of_right), mask=inside)
        tl.debug_barrier()
    for start in range(0, SLOTS * group, NODES):
        slot, place, inside = _nodes(slots, start, group, count, SLOTS, NODES)
        token, taken = _tokens(members, filled, slot, place, inside, length, k, group, HAS_FILLED)
        d = tl.load(d_of + slot * 2 * group + group + place, mask=inside, other=0.0)
        tl.store(d_scores + token, d, mask=taken)


@triton.jit
def _nodes(slots, start, nodes, count, SLOTS: tl.constexpr, NODES: tl.constexpr):
    """Some nodes of one level, which has so many ``nodes`` for each slot: slot, number in the level, whether it is."""
    number = start + tl.arange(0, NODES)
    slot = slots + number // nodes
    return slot, number % nodes, (number < SLOTS * nodes) & (slot < count)


@triton.jit
def _tokens(members, filled, slot, place, inside, length, k, group: tl.constexpr, HAS_FILLED: tl.constexpr):
    """The members at some places of slots, among the tokens of all documents, and whether a place is taken."""
    seat = slot * group + place
    token = slot // k * length + tl.load(members + seat, mask=inside, other=0)
    if HAS_FILLED:
        inside &= tl.load(filled + seat, mask=inside, other=0) != 0
    return token, inside


@triton.jit
def _load_children(tree, node, nodes, inside):
    left = tl.load(tree + node + nodes, mask=inside, other=0.0)
    return left, tl.load(tree + node + 2 * nodes, mask=inside, other=0.0)


def tournament(
    scores: Tensor, padding_mask: Tensor | None, places: int, k: int, base: float, preserve_order: bool
) -> tuple[Tensor, ...]:
    """(B, n) float32, (B, n) bool or None -> the fields of ``tournament.Played``, with sorting. Base 0 is the plain
    softmax; ``filled`` has no documents where no place can be empty."""
    (batch, length), rounds, group = scores.shape, (places // k).bit_length() - 1, places // k
    slot_scores, slots, weights, members, filled = played = make_room(scores, padding_mask, places, k)
    if not batch:
        return played
    scores = scores.contiguous()
    candidates = 2 * (places - k)  # of all rounds
    ranks, ordered = scores.new_empty(batch, candidates, dtype=torch.int32), scores.new_empty(batch, candidates)
    nodes, places_of = (scores.new_empty(batch, places, dtype=torch.int32) for _ in range(2))
    slots_of, winners = (scores.new_empty(batch, k, dtype=torch.int32) for _ in range(2))
    node_scores = torch.empty_like(slot_scores)
    softmax = _softmax(base)
    with torch.cuda.device_of(scores):
        first = 0
        for round in range(rounds):
            size = places >> round
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
                *softmax,
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
        many = 256
        _walk_kernel[batch, triton.cdiv(places, many)](
            nodes,
            places_of,
            weights,
            node_scores,
            ranks,
            ordered,
            length,
            places,
            k,
            *softmax,
            candidates,
            ROUNDS=rounds,
            PEAKED=base > 0,
            PLACES=many,
        )
        _line_up_kernel[batch,](
            slot_scores,
            slots_of,
            winners,
            nodes,
            places_of,
            node_scores,
            places,
            k,
            PRESERVE_ORDER=preserve_order,
            PLACES=min(max(triton.next_power_of_2(places), 128), 4096),
            num_warps=16,
        )
        _seat_kernel[batch, triton.cdiv(places, many)](
            slots,
            members,
            filled,
            nodes,
            places_of,
            slots_of,
            winners,
            length,
            places,
            k,
            group,
            HAS_FILLED=filled.size(0) > 0,
            PLACES=many,
        )
    return played


def tournament_backward(
    d_slot_scores: Tensor, d_weights: Tensor, scores: Tensor, members: Tensor, filled: Tensor, base: float
) -> Tensor:
    """The gradient of the scores: (B, k), (B, n), (B, n), (B, k, g), (B or 0, k, g) -> (B, n)."""
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
                *_softmax(base),
                HAS_FILLED=filled.size(0) > 0,
                PEAKED=base > 0,
                ROUNDS=group.bit_length() - 1,
                SLOTS=slots,
                NODES=512,
            )
    return d_scores


def _chunk(size: int) -> int:
    """How many of the candidates of a round one program sorts: few, for many programs; but not many chunks, in each
    of which every candidate is searched."""
    size = triton.next_power_of_2(size)
    return min(max(size // 8, 256), 1024, size)


def _softmax(base: float) -> tuple[float, float]:
    """log(base), and the score above which base**score would overflow."""
    if base == 0:
        return 0.0, 0.0
    return math.log(base), highest_score(base, torch.float32)
