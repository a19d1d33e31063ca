"""Copying through poolings: attention to k vectors is a distribution over the n tokens that are in them.

A pooling sends every token to one vector with one weight, and the weights of a vector's tokens sum to one. So
attention ``a`` to the vectors copies token i with probability ``a[slot(i)] * weight(i)``, exactly (See et al. 2017,
Eq. 9, for attention to tokens). Only :func:`token_copies` and :func:`copy_distribution` build (t, n) and (t, V)
matrices.

A token that stands for no word, ``<unk>``, cannot be copied: the probability of copying it goes to writing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Divided by k and added to the attention to continue a passage, so that it can go on where the attention has left it.
CONTINUATION_FLOOR = 1e-2
#: Factor by which a token counts more as a continuation for each further token before it that the summary shares.
CONTEXT_FACTOR = 100.0


class CopySource(NamedTuple):
    """The tokens that can be copied, and where they are in what the decoder reads."""

    tokens: Tensor
    """(B, n) int64 ids in the target's dictionary; -1 where the token cannot be copied."""
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


def shared_numbers(keys: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Number the distinct queries of each row, and tell which of them each key equals.

    Args:
        keys: (B, n) int64.
        queries: (B, t) int64.

    Returns:
        (B, n) the number of the query that a key equals, -1 where none does; (B, t) the numbers of the queries.
        Numbers are below t.
    """
    ordered = queries.sort(dim=1).values
    numbers = torch.searchsorted(ordered, keys.contiguous()).clamp(max=queries.size(1) - 1)
    found = ordered.gather(1, numbers) == keys
    return numbers.masked_fill(~found, -1), torch.searchsorted(ordered, queries.contiguous())


def copied_mass(attention: Tensor, source: CopySource, keys: Tensor, queries: Tensor) -> Tensor:
    """Sum, for each row of the attention, what goes to the tokens whose key equals the row's query.

    Memory is O(t k + n) a document: tokens are first summed by (query, vector).

    Args:
        attention: (B, t, k).
        source: of the same documents.
        keys: (B, n) numbers from :func:`shared_numbers`.
        queries: (B, t) numbers from :func:`shared_numbers`.

    Returns:
        (B, t) in the attention's dtype.
    """
    batch, count, vectors = attention.shape
    weights = (source.weights * (keys >= 0)).to(attention.dtype)
    index = keys.clamp(min=0) * vectors + source.slots
    masses = attention.new_zeros(batch, count * vectors).scatter_add(1, index, weights).view(batch, count, vectors)
    return (attention * masses.gather(1, queries.unsqueeze(2).expand_as(attention))).sum(dim=2)


def tokens_before(tokens: Tensor, distance: int, fill: int) -> Tensor:
    """Return the token ``distance`` positions before each of the (B, n) tokens; ``fill`` where there is none."""
    start = tokens.new_full((len(tokens), min(distance, tokens.size(1))), fill)
    return torch.cat([start, tokens[:, : max(0, tokens.size(1) - distance)]], dim=1)


def histories(tokens: Tensor, count: int, rows: int) -> Tensor:
    """Return the decoder's last inputs: (B, s) tokens -> (B, rows, count), the latest first, for the last ``rows``.

    Where a summary is shorter there is -2, which equals no token, and not what stands before a document.
    """
    past = tokens.new_empty(*tokens.shape, count)
    for distance in range(count):
        past[:, :, distance] = tokens_before(tokens, distance, -2)
    return past[:, tokens.size(1) - rows :]


def copy_probability(
    attention: Tensor, source: CopySource, targets: Tensor, history: Tensor, continued: Tensor, vocabulary: int
) -> tuple[Tensor, Tensor]:
    """Return the probability with which each target is copied, and of copies that cannot be made.

    A copy takes a token anywhere in the source, as the attention says, or, with the share ``continued``, one that
    follows an occurrence of the previous token in the source. Of these, one counts :data:`CONTEXT_FACTOR` times more
    for each further token before it that equals the summary's, so that the longest common passage goes on. Where the
    source has no occurrence, or h is 0, all of it is the first kind.

    Args:
        attention: (B, t, k) of :func:`copy_attention`.
        source: of the same documents.
        targets: (B, t) int64 ids.
        history: (B, t, h) int64 of :func:`histories`, the h tokens before each target.
        continued: (B, t) share of the second kind, in [0, 1].
        vocabulary: V, above every id.

    Returns:
        (B, t) of the target; (B, t) of tokens that cannot be copied.
    """
    # 1. Copying from anywhere: (B, t) attention to all tokens that equal the target.
    anywhere = copied_mass(attention, source, *shared_numbers(source.tokens, targets))

    # 2. Continuing: the last ``distance`` tokens before each token of the source, (B, n), and before each target,
    # (B, t), have a number, the same for equal tokens; -1 in the source where the summary has no such tokens.
    # `context` sums, (B, t), the attention to all tokens after the same context, `context_and_target` to those of them
    # that equal the target. A token after a context of c tokens counts CONTEXT_FACTOR ** (c - 1): each distance adds
    # the difference to the one before.
    copyable = source.tokens >= 0
    floored = attention + CONTINUATION_FLOOR / attention.size(2)
    context = torch.zeros_like(anywhere)
    context_and_target = torch.zeros_like(anywhere)
    source_contexts = torch.zeros_like(source.tokens)
    target_contexts = torch.zeros_like(targets)
    factor = 1.0
    for distance in range(1, history.size(2) + 1):
        # Contexts that are longer by one token: (number, token) as one number, then numbered anew from 0.
        source_before = tokens_before(source.tokens, distance, -1)
        target_before = history[:, :, distance - 1]
        source_longer = source_contexts * vocabulary + source_before
        source_longer = source_longer.masked_fill((source_contexts < 0) | (source_before < 0), -1)
        # Before the summary's start it is -2: a computed number could equal that of a real passage.
        target_longer = (target_contexts * vocabulary + target_before).masked_fill(target_before < 0, -2)
        source_contexts, target_contexts = shared_numbers(source_longer, target_longer)

        added = factor - (factor / CONTEXT_FACTOR if distance > 1 else 0.0)
        keys = source_contexts.masked_fill(~copyable, -1)
        context = context + added * copied_mass(floored, source, keys, target_contexts)
        keys_and_tokens = (source_contexts * vocabulary + source.tokens).masked_fill(keys < 0, -1)
        numbers = shared_numbers(keys_and_tokens, target_contexts * vocabulary + targets)
        context_and_target = context_and_target + added * copied_mass(floored, source, *numbers)
        factor *= CONTEXT_FACTOR

    # 3. The mixture: (B, t). Without a common context all of it is copied from anywhere.
    goes_on = context > 0
    following = torch.where(goes_on, context_and_target / context.masked_fill(~goes_on, 1), anywhere)
    return (1 - continued) * anywhere + continued * following, _left_over(attention, source, continued, goes_on)


def _left_over(attention: Tensor, source: CopySource, continued: Tensor, goes_on: Tensor) -> Tensor:
    """Return the probability of copying what cannot be copied: (B, t), 1 where there is nothing to point at.

    Where a passage ``goes_on``, only tokens that can be copied continue it.
    """
    lost = (source.weights * (source.tokens < 0)).to(attention)
    masses = torch.zeros_like(attention[:, 0]).scatter_add(1, source.slots, lost)
    anywhere = (attention @ masses.unsqueeze(2)).squeeze(2).masked_fill(attention.sum(dim=2) <= 0, 1)
    return anywhere * (1 - continued * goes_on)


def token_copies(attention: Tensor, source: CopySource, history: Tensor, continued: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability with which each of the source's tokens is copied, (B, t, n), and of the rest, (B, t).

    Both together sum to one. Arguments, and what the rest is, are those of :func:`copy_probability`. It holds
    (B, t, n) numbers: it is meant for the few rows of a step of generation, and to explain a summary.
    """
    at_slots = attention.gather(2, source.slots.unsqueeze(1).expand(-1, attention.size(1), -1))
    weights = (source.weights * (source.tokens >= 0)).unsqueeze(1).to(attention.dtype)
    anywhere = at_slots * weights
    if not history.size(2):
        return anywhere, _left_over(attention, source, continued, torch.zeros_like(continued, dtype=torch.bool))
    following = (at_slots + CONTINUATION_FLOOR / attention.size(2)) * weights
    following = following * _context_factors(source.tokens, history, following.dtype)
    context = following.sum(dim=2)
    goes_on = context > 0
    left = _left_over(attention, source, continued, goes_on)
    continued = continued * goes_on
    share = continued / context.masked_fill(~goes_on, 1)
    return torch.addcmul(anywhere * (1 - continued).unsqueeze(2), following, share.unsqueeze(2)), left


def _context_factors(tokens: Tensor, history: Tensor, dtype: torch.dtype) -> Tensor:
    """Return how much each token counts as continuation: (B, t, n), 0 where the token before it is another one."""
    tokens = tokens.unsqueeze(1)
    matched = torch.ones(len(tokens), history.size(1), tokens.size(2), dtype=torch.bool, device=tokens.device)
    factors = matched.to(dtype)
    for distance in range(1, history.size(2) + 1):
        matched[:, :, :distance] = False
        matched[:, :, distance:] &= tokens[:, :, :-distance] == history[:, :, distance - 1 : distance]
        same = matched.to(dtype)
        factors = same if distance == 1 else factors.addcmul_(factors, same, value=CONTEXT_FACTOR - 1)
    return factors


def copy_distribution(
    attention: Tensor, source: CopySource, history: Tensor, continued: Tensor, vocabulary: int
) -> tuple[Tensor, Tensor]:
    """Return :func:`copy_probability` of every token of the vocabulary, (B, t, V), and of the rest, (B, t).

    It holds (B, t, n) and (B, t, V) numbers: it is meant for the few rows of a step of generation, and for criteria
    that ask for all probabilities.
    """
    copied, left = token_copies(attention, source, history, continued)
    index = source.tokens.clamp(min=0).unsqueeze(1).expand_as(copied)
    distribution = attention.new_zeros(*attention.shape[:2], vocabulary).scatter_add(2, index, copied)
    return distribution, left


def writing_gate(write: Tensor, copy: Tensor, left: Tensor) -> Tensor:
    """Return the log of the gate of writing, to which the copies that cannot be made are added.

    Args:
        write, copy: (B, t) logs of the gates.
        left: (B, t) share of copying that is left over.
    """
    return torch.logaddexp(write, copy + left.clamp(min=torch.finfo(left.dtype).tiny).log())


def mix_log_probabilities(written: Tensor, write: Tensor, copied: Tensor, copy: Tensor) -> Tensor:
    """Return log(exp(write) * exp(written) + exp(copy) * copied), without underflow of the first part.

    Args:
        written: (..., V) or (...) log probabilities of writing from the vocabulary.
        write: log of the gate of writing, of a shape that broadcasts.
        copied: probabilities of copying, as ``written``.
        copy: log of the gate of copying.

    Returns:
        As ``written``. Finite also where nothing is copied, and so is its gradient: a number far below the dtype's
        rounding is added to ``copied`` (4e-29 in float32).
    """
    tiny = torch.finfo(copied.dtype).tiny ** 0.75
    return torch.logaddexp(written + write, (copied + tiny).log() + copy)


def mix_token_copies(written: Tensor, write: Tensor, copied: Tensor, copy: Tensor, tokens: Tensor) -> Tensor:
    """Return :func:`mix_log_probabilities` for copies by token of the source: faster, without gradients.

    Args:
        written: (B, t, V) log probabilities of writing; overwritten.
        write, copy: (B, t) logs of the gates.
        copied: (B, t, n) of :func:`token_copies`.
        tokens: (B, n) int64 ids, -1 where the token cannot be copied.

    Returns:
        As ``written``.
    """
    written.add_(write.unsqueeze(2))
    index = tokens.clamp(min=0).unsqueeze(1).expand_as(copied)
    mixed = written.exp().scatter_add_(2, index, copied * copy.exp().unsqueeze(2)).log_()
    return torch.maximum(mixed, written, out=mixed)  # the first has underflowed below the dtype's smallest number
