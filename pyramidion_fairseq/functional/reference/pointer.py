"""Slow, straightforward counterpart of the pointer's mixture, by explicit distributions, token by token."""

from __future__ import annotations

import torch
from torch import Tensor

from ..pointer import CONTEXT_FACTOR, CONTINUATION_FLOOR, CopySource


def pointing(attention: Tensor, source: CopySource, document: int) -> Tensor:
    """Return one row of attention, (k,), restricted to vectors that hold tokens of the document, and renormalised."""
    holds = [False] * len(attention)
    for slot, weight in zip(source.slots[document].tolist(), source.weights[document].tolist()):
        holds[slot] |= weight > 0
    row = torch.stack([a if held else 0 * a for a, held in zip(attention, holds)])
    return row / row.sum() if any(holds) else row


def token_probabilities(row: Tensor, source: CopySource, document: int) -> Tensor:
    """Return the (n,) probabilities of copying each token of a document, given one row of attention to the vectors."""
    slots = source.slots[document].tolist()
    weights = source.weights[document]
    tokens = source.tokens[document].tolist()
    return torch.stack([row[s] * weight * (token >= 0) for s, weight, token in zip(slots, weights, tokens)])


def common_context(before: list[int], history: list[int]) -> int:
    """Count the last tokens of ``before`` that equal those of ``history``, in which the latest token is first."""
    count = 0
    while count < min(len(before), len(history)) and before[-1 - count] == history[count]:
        count += 1
    return count


def mixed_distribution(
    logits: Tensor, gates: Tensor, attention: Tensor, source: CopySource, history: Tensor
) -> Tensor:
    """Return p(w) = write softmax(logits) + copy (anywhere) + continue (the preceding passage): (B, t, V).

    Args:
        logits: (B, t, V).
        gates: (B, t, 3) logits of writing, copying and continuing.
        attention: (B, t, k) attention to the decoder's input vectors.
        source: tokens that can be copied.
        history: (B, t, h) tokens before each target, the latest first.
    """
    out = []
    for b in range(len(logits)):
        tokens = source.tokens[b].tolist()
        slots = source.slots[b].tolist()
        for t in range(logits.size(1)):
            write, copy, go_on = torch.softmax(gates[b, t], dim=0)
            pointed = pointing(attention[b, t], source, b)
            anywhere = token_probabilities(pointed, source, b)
            following = token_probabilities(pointed + CONTINUATION_FLOOR / len(pointed), source, b)
            common = [common_context(tokens[:i], history[b, t].tolist()) for i in range(len(tokens))]
            factors = torch.tensor([CONTEXT_FACTOR ** (m - 1) if m else 0.0 for m in common], dtype=pointed.dtype)
            following = following * factors
            goes_on = bool(following.sum() > 0)
            following = following / following.sum() if goes_on else anywhere
            # The probability of copies that are impossible is added to writing: all of it if no vector holds a token.
            lost = [pointed[slots[i]] * source.weights[b, i] for i, token in enumerate(tokens) if token < 0]
            left = torch.stack([*lost, 0 * pointed.sum()]).sum() if pointed.sum() > 0 else torch.ones_like(write)
            write = write + copy * left + (0.0 if goes_on else go_on * left)
            row = write * torch.softmax(logits[b, t], dim=0)
            for i, token in enumerate(tokens):
                if token >= 0:
                    chosen = torch.zeros_like(row)
                    chosen[token] = 1
                    row = row + chosen * (copy * anywhere[i] + go_on * following[i])
            out.append(row)
    return torch.stack(out).view_as(logits)
