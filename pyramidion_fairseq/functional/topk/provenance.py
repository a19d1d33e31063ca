"""Tracking tokens through poolings: the slot that holds each token in the end, and the token's weight in it.

A pooling assigns each token to one slot with one weight, and so does a chain of poolings. This takes two numbers per
token and pooling. No k x n matrix of shares is ever built.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import torch
from torch import Tensor


class TokenRecord(NamedTuple):
    """Slots and weights of the n tokens of each document after one or more poolings."""

    slots: Tensor
    """(B, n) int64, the slot that holds each token; 0, with weight 0, for padding and for dropped tokens."""
    weights: Tensor
    """(B, n) weight of each token in its slot, at least float32."""


def keep_record(weights: Tensor) -> TokenRecord:
    """Return the record before any pooling: token i is in slot i with the given (B, n) weight, 0 for padding."""
    return TokenRecord(torch.arange(weights.size(1), device=weights.device).expand_as(weights), weights)


def compose_poolings(slots: Sequence[Tensor], weights: Sequence[Tensor]) -> list[TokenRecord]:
    """Compose poolings, and return the record of the document's tokens after each of them.

    A token's weight after two poolings is its weight in its first slot times the weight of that slot in the second
    one. The layers between two poolings change the vectors of the slots, but not which tokens a slot holds.

    Args:
        slots: (B, T_i) int64 per pooling, the slot of each vector that it reads. T_1 = n, and T_(i+1) is at least the
            number of slots of pooling i.
        weights: (B, T_i) per pooling.

    Returns:
        One (B, n) record per pooling. The weights of a slot sum to one if those of each pooling do.

    Raises:
        ValueError: slots and weights differ in shape.
    """
    if [s.shape for s in slots] != [w.shape for w in weights]:
        raise ValueError(
            f"slots {[tuple(s.shape) for s in slots]} and weights {[tuple(w.shape) for w in weights]} differ in shape"
        )
    records: list[TokenRecord] = []
    for slot, weight in zip(slots, weights):
        if records:
            before = records[-1]
            slot = slot.gather(1, before.slots)
            weight = before.weights * weight.gather(1, before.slots)
        records.append(TokenRecord(slot, weight))
    return records


def pool_by_record(states: Tensor, record: TokenRecord, k: int) -> Tensor:
    """Sum the states of each slot with the weights of a record: (B, n, C) -> (B, k, C)."""
    parts = states * record.weights.unsqueeze(2).to(states.dtype)
    index = record.slots.unsqueeze(2).expand_as(parts)
    return states.new_zeros(len(states), k, states.size(2)).scatter_add(1, index, parts)


def attention_to_tokens(attention: Tensor, record: TokenRecord) -> Tensor:
    """Distribute attention to slots over their tokens: token i gets ``attention[slot(i)] * weight(i)``.

    Args:
        attention: (B, t, k) attention to slots.
        record: (B, n) record of the same documents.

    Returns:
        (B, t, n). If the weights of each slot sum to one, the row sums do not change. The result has t x n elements
        per document, so pass few rows at a time.
    """
    index = record.slots.unsqueeze(1).expand(-1, attention.size(1), -1)
    return attention.gather(2, index) * record.weights.unsqueeze(1).to(attention.dtype)


def sum_by_group(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Sum columns by group: (r, n) values, (n,) int64 group of each column or -1 for none -> (r, count)."""
    chosen = groups >= 0
    sums = values.new_zeros(len(values), count)
    return sums.index_add_(1, groups[chosen], values[:, chosen])
