"""Bytes sent by a rank in the forward pass: for pooling sharded documents, and for ring attention in comparison."""

from __future__ import annotations

from .parts import Parts


def bytes_of_pooling(
    parts: Parts, k: int, dim: int, rank: int, last: bool, batch: int = 1, item: int = 4, score: int = 4
) -> int:
    """Return the bytes that a rank sends in the forward pass of one pooling.

    A rank sends its scores to every other rank, and to each rank its partial sums of that rank's slots. After the last
    pooling, every rank also sends the slots that it has summed to all others. In the backward pass all ranks together
    send the same amount.

    Args:
        parts: parts of the documents before the pooling.
        k: number of pooled vectors.
        dim: C, width of the vectors.
        rank: rank of the sender.
        last: whether this is the last pooling, after which all ranks hold all k vectors.
        batch: number of documents.
        item: size of a coordinate in bytes.
        score: size of a score in bytes.
    """
    others = parts.size - 1
    slots = Parts(k, parts.block, parts.size)
    sent = others * max(1, *parts.widths) * score + (k - slots.width(rank)) * dim * item
    if last:
        sent += others * max(1, *slots.widths) * dim * item
    return batch * sent


def bytes_of_ring_attention(length: int, dim: int, size: int, batch: int = 1, item: int = 4) -> float:
    """Return the bytes that a rank sends in the forward pass of one ring attention layer (Liu et al. 2023).

    The keys and values of its part go around the ring once. The backward pass sends them and their gradients, which is
    twice as much.
    """
    return 2 * batch * length * dim * item * (size - 1) / size
