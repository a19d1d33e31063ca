"""The pointer's mixture by explicit distributions, token by token: slow, obvious, for tests to compare with."""

from __future__ import annotations

import torch
from torch import Tensor

from ..pointer import CONTEXT_FACTOR, CONTINUATION_FLOOR, CopySource


def pointing(attention: Tensor, source: CopySource, document: int) -> Tensor:
    """Return one row of attention, (k,), without the vectors that hold none of the document's tokens."""
    holds = [False] * len(attention)
    for slot, weight in zip(source.slots[document].tolist(), source.weights[document].tolist()):
        holds[slot] |= weight > 0
    row = torch.stack([a if held else 0 * a for a, held in zip(attention, holds)])
    return row / row.sum()


def token_probabilities(row: Tensor, source: CopySource, document: int) -> Tensor:
    """Return the (n,) probabilities with which a row over the vectors copies each of a document's tokens."""
    slots, weights = source.slots[document].tolist(), source.weights[document]
    return torch.stack([row[slot] * weight for slot, weight in zip(slots, weights)])


def common_context(before: list[int], history: list[int]) -> int:
    """Count the last tokens of ``before`` that equal the history's, the latest first in the latter."""
    count = 0
    while count < min(len(before), len(history)) and before[-1 - count] == history[count]:
        count += 1
    return count


def mixed_distribution(
    logits: Tensor, gates: Tensor, attention: Tensor, source: CopySource, history: Tensor
) -> Tensor:
    """Return p(w) = write softmax(logits) + copy (anywhere) + continue (the passage before): (B, t, V).

    Args:
        logits: (B, t, V).
        gates: (B, t, 3) logits of writing, copying and continuing.
        attention: (B, t, k) rows over the decoder's vectors.
        source: the tokens that can be copied.
        history: (B, t, h) the tokens before each, the latest first.
    """
    out = []
    for b in range(len(logits)):
        tokens = source.tokens[b].tolist()
        for t in range(logits.size(1)):
            write, copy, go_on = torch.softmax(gates[b, t], dim=0)
            row = pointing(attention[b, t], source, b)
            anywhere = token_probabilities(row, source, b)
            following = token_probabilities(row + CONTINUATION_FLOOR / len(row), source, b)
            common = [common_context(tokens[:i], history[b, t].tolist()) for i in range(len(tokens))]
            factors = torch.tensor([CONTEXT_FACTOR ** (m - 1) if m else 0.0 for m in common], dtype=row.dtype)
            following = following * factors
            following = following / following.sum() if following.sum() > 0 else anywhere
            row = write * torch.softmax(logits[b, t], dim=0)
            for i, token in enumerate(tokens):
                chosen = torch.zeros_like(row)
                chosen[token] = 1
                row = row + chosen * (copy * anywhere[i] + go_on * following[i])
            out.append(row)
    return torch.stack(out).view_as(logits)
