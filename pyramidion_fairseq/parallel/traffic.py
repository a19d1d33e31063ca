"""How many bytes one rank sends in a forward pass: a pooling of documents in parts, and ring attention beside it."""

from __future__ import annotations

from .parts import Parts


def bytes_of_pooling(
    parts: Parts, k: int, dim: int, rank: int, last: bool, batch: int = 1, item: int = 4, score: int = 4
) -> int:
    """Return what a rank sends in the forward pass of one pooling; in the backward pass all ranks send as much.

    Its scores go to every other rank, and its partial sums of the slots of every other rank go there. After the last
    pooling every rank also sends the slots that it has summed to all others.

    Args:
        parts: of the documents before the pooling.
        k: vectors that the pooling leaves.
        dim: C, width of the vectors.
        rank: the sender.
        last: whether it is the last pooling, after which all ranks hold all k vectors.
        batch: documents.
        item: bytes of a coordinate.
        score: bytes of a score.
    """
    others = parts.size - 1
    slots = Parts(k, parts.block, parts.size)
    sent = others * max(1, *parts.widths) * score + (k - slots.width(rank)) * dim * item
    if last:
        sent += others * max(1, *slots.widths) * dim * item
    return batch * sent


def bytes_of_ring_attention(length: int, dim: int, size: int, batch: int = 1, item: int = 4) -> float:
    """Return what a rank sends in the forward pass of one layer of ring attention (Liu et al. 2023).

    Keys and values of its part go once around the ring. The backward pass sends them and their gradients: twice as
    much.
    """
    return 2 * batch * length * dim * item * (size - 1) / size
