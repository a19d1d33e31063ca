"""Copying through poolings: attention to k vectors is a distribution over the n tokens that are in them.

A pooling sends every token to one vector with one weight, and the weights of a vector's tokens sum to one. So
attention ``a`` to the vectors copies token i with probability ``a[slot(i)] * weight(i)``, exactly (See et al. 2017,
Eq. 9, for attention to tokens). Only :func:`token_copies` and
:func:`copy_distribution` build (t, n) and (t, V) matrices.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Added to the attention, divided by k, where a word is continued: so that the source continues it also where the
#: attention has left it.
CONTINUATION_FLOOR = 1e-3


class CopySource(NamedTuple):
    """The tokens that can be copied, and where they are in what the decoder reads."""

    tokens: Tensor
    """(B, n) int64 ids in the target's dictionary."""
    slots: Tensor
    """(B, n) int64, the vector that holds each token, an index into the decoder's k."""
    weights: Tensor
    """(B, n) the token's weight in its vector, float32 at least; 0 for padding and what was dropped."""


def copy_attention(attention: Tensor, source: CopySource) -> Tensor:
    """Return the attention to the vectors that hold tokens, each row with sum one.

    Args:
        attention: (B, t, k) rows over the decoder's vectors, any floating dtype; global tokens are vectors without
            tokens, for instance.
        source: of the same documents.

    Returns:
        (B, t, k) float32 at least.
    """
    attention = attention.to(torch.promote_types(attention.dtype, torch.float32))
    holds = torch.zeros_like(attention[:, 0]).scatter_add(1, source.slots, source.weights.detach().to(attention))
    attention = attention * (holds > 0).unsqueeze(1)
    return attention / attention.sum(dim=2, keepdim=True).clamp(min=torch.finfo(attention.dtype).tiny)


def copied_mass(attention: Tensor, source: CopySource, keys: Tensor, queries: Tensor) -> Tensor:
    """Sum, for each row of the attention, what goes to the tokens whose key equals the row's query.

    Memory is O(t k + n) a document: tokens are first summed by (distinct query, vector).

    Args:
        attention: (B, t, k).
        source: of the same documents.
        keys: (B, n) int64, one for each of the source's tokens.
        queries: (B, t) int64.

    Returns:
        (B, t) in the attention's dtype.
    """
    batch, count, vectors = attention.shape
    ordered = queries.sort(dim=1).values
    number_of_query = torch.searchsorted(ordered, queries.contiguous())
    number_of_key = torch.searchsorted(ordered, keys.contiguous()).clamp(max=count - 1)
    matched = ordered.gather(1, number_of_key) == keys
    weights = (source.weights * matched).to(attention.dtype)
    index = number_of_key * vectors + source.slots
    masses = attention.new_zeros(batch, count * vectors).scatter_add(1, index, weights).view(batch, count, vectors)
    return (attention * masses.gather(1, number_of_query.unsqueeze(2).expand_as(attention))).sum(dim=2)


def shift_right(tokens: Tensor) -> Tensor:
    """Return the token before each of the (B, n) tokens; -1, which is no token, before the first."""
    return torch.cat([tokens.new_full((len(tokens), 1), -1), tokens[:, :-1]], dim=1)


def copy_probability(
    attention: Tensor, source: CopySource, targets: Tensor, previous: Tensor, continued: Tensor, vocabulary: int
) -> Tensor:
    """Return the probability with which each target is copied.

    A copy takes a token anywhere in the source, as the attention says, or, with the share ``continued``, one that
    follows the previous token in the source: then only tokens after an occurrence of ``previous`` count. Where the
    source has none, all of it is the first kind.

    Args:
        attention: (B, t, k) of :func:`copy_attention`.
        source: of the same documents.
        targets: (B, t) int64 ids.
        previous: (B, t) int64, the token before each target.
        continued: (B, t) share of the second kind, in [0, 1].
        vocabulary: V, above every id.

    Returns:
        (B, t).
    """
    anywhere = copied_mass(attention, source, source.tokens, targets)
    before = shift_right(source.tokens)
    floored = attention + CONTINUATION_FLOOR / attention.size(2)
    context = copied_mass(floored, source, before, previous)
    both = copied_mass(floored, source, before * vocabulary + source.tokens, previous * vocabulary + targets)
    following = torch.where(context > 0, both / context.masked_fill(context <= 0, 1), anywhere)
    return (1 - continued) * anywhere + continued * following


def token_copies(attention: Tensor, source: CopySource, previous: Tensor, continued: Tensor) -> Tensor:
    """Return the probability with which each of the source's tokens is copied: (B, t, n), rows with sum one.

    Arguments as of :func:`copy_probability`. For the few rows of a step of generation, and to explain a summary.
    """
    at_slots = attention.gather(2, source.slots.unsqueeze(1).expand(-1, attention.size(1), -1))
    weights = source.weights.unsqueeze(1).to(attention.dtype)
    anywhere = at_slots * weights
    follows = shift_right(source.tokens).unsqueeze(1) == previous.unsqueeze(2)
    following = (at_slots + CONTINUATION_FLOOR / attention.size(2)) * weights * follows
    context = following.sum(dim=2, keepdim=True)
    following = torch.where(context > 0, following / context.masked_fill(context <= 0, 1), anywhere)
    continued = continued.unsqueeze(2)
    return (1 - continued) * anywhere + continued * following


def copy_distribution(
    attention: Tensor, source: CopySource, previous: Tensor, continued: Tensor, vocabulary: int
) -> Tensor:
    """Return :func:`copy_probability` of every token of the vocabulary: (B, t, V).

    It holds (B, t, n) and (B, t, V) numbers: for the few rows of a step of generation, and for criteria that ask for
    all probabilities.
    """
    copied = token_copies(attention, source, previous, continued)
    index = source.tokens.unsqueeze(1).expand_as(copied)
    return attention.new_zeros(*attention.shape[:2], vocabulary).scatter_add(2, index, copied)


def mix_log_probabilities(written: Tensor, write: Tensor, copied: Tensor, copy: Tensor) -> Tensor:
    """Return log(exp(write) * exp(written) + exp(copy) * copied), without underflow of the first part.

    Args:
        written: (..., V) or (...) log probabilities of writing from the vocabulary.
        write: log of the gate of writing, of a shape that broadcasts.
        copied: probabilities of copying, as ``written``.
        copy: log of the gate of copying.

    Returns:
        As ``written``. Finite also where nothing is copied: the smallest number of the dtype is added to ``copied``.
    """
    tiny = torch.finfo(copied.dtype).tiny
    return torch.logaddexp(written + write, (copied + tiny).log() + copy)
