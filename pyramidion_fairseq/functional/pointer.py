"""Copying tokens through poolings: attention to k pooled vectors is a distribution over their n tokens.

A pooling assigns each token to one vector with one weight, and the weights of a vector's tokens sum to one. Attention
``a`` to the vectors therefore copies token i with probability ``a[slot(i)] * weight(i)`` exactly (See et al. 2017, Eq.
9, for attention to tokens). Only :func:`token_copies` and :func:`copy_distribution` build (t, n) and (t, V) matrices.

A token that stands for no word, such as ``<unk>``, cannot be copied. The probability of copying it is added to that of
writing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

#: Divided by k and added to the attention when continuing a passage, so that a passage can continue at vectors that
#: receive no attention.
CONTINUATION_FLOOR = 1e-2
#: Factor by which the weight of a continuation grows with each additional preceding token shared with the summary.
CONTEXT_FACTOR = 100.0
#: Number of a source token, or of a source context, that no query equals; also the token before a document.
NO_MATCH = -1
#: Token before the start of a summary. It equals no source token, not even :data:`NO_MATCH`.
BEFORE_SUMMARY = -2


class CopySource(NamedTuple):
    """Tokens that can be copied, with their slots in the decoder's input."""

    tokens: Tensor
    """(B, n) int64 ids in the target dictionary; -1 for tokens that cannot be copied."""
    slots: Tensor
    """(B, n) int64, the index of the vector that holds each token, among the k vectors of the decoder's input."""
    weights: Tensor
    """(B, n) the token's weight in its vector, at least float32; 0 for padding and for dropped tokens."""


def copy_attention(attention: Tensor, source: CopySource) -> Tensor:
    """Return the attention to vectors that hold tokens, renormalised so that each row sums to one.

    Args:
        attention: (B, t, k) attention to the decoder's input vectors, any floating dtype. Some vectors hold no tokens,
            for instance those of global tokens.
        source: tokens of the same documents.

    Returns:
        (B, t, k), at least float32.
    """
    attention = attention.to(torch.promote_types(attention.dtype, torch.float32))
    weights = source.weights.detach().to(attention)
    holds_tokens = torch.zeros_like(attention[:, 0]).scatter_add(1, source.slots, weights) > 0  # (B, k)
    attention = attention * holds_tokens.unsqueeze(1)
    return attention / attention.sum(dim=2, keepdim=True).clamp(min=torch.finfo(attention.dtype).tiny)


def shared_numbers(keys: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Number the distinct queries of each row, and return which of them each key equals.

    Args:
        keys: (B, n) int64.
        queries: (B, t) int64.

    Returns:
        (B, n) number of the query that each key equals, -1 if there is none; (B, t) number of each query. Numbers are
        less than t.
    """
    ordered = queries.sort(dim=1).values
    numbers = torch.searchsorted(ordered, keys.contiguous()).clamp(max=queries.size(1) - 1)
    found = ordered.gather(1, numbers) == keys
    return numbers.masked_fill(~found, NO_MATCH), torch.searchsorted(ordered, queries.contiguous())


def copied_mass(attention: Tensor, source: CopySource, keys: Tensor, queries: Tensor) -> Tensor:
    """Sum, for each row of the attention, the mass of the tokens whose key equals the row's query.

    Memory is O(t k + n) per document, because tokens are first summed by (query, vector).

    Args:
        attention: (B, t, k).
        source: of the same documents.
        keys: (B, n) numbers from :func:`shared_numbers`.
        queries: (B, t) numbers from :func:`shared_numbers`.

    Returns:
        (B, t) in the dtype of ``attention``.
    """
    batch, count, vectors = attention.shape
    weights = (source.weights * (keys >= 0)).to(attention.dtype)
    index = keys.clamp(min=0) * vectors + source.slots
    masses = attention.new_zeros(batch, count * vectors).scatter_add(1, index, weights).view(batch, count, vectors)
    return (attention * masses.gather(1, queries.unsqueeze(2).expand_as(attention))).sum(dim=2)


def tokens_before(tokens: Tensor, distance: int, fill: int) -> Tensor:
    """Return the token ``distance`` positions before each of (B, n) tokens, or ``fill`` if there is none."""
    start = tokens.new_full((len(tokens), min(distance, tokens.size(1))), fill)
    return torch.cat([start, tokens[:, : max(0, tokens.size(1) - distance)]], dim=1)


def histories(tokens: Tensor, count: int, rows: int) -> Tensor:
    """Return the tokens before each of the last ``rows`` outputs: (B, s) inputs -> (B, rows, count), the latest first.

    Missing tokens at the start of a summary are :data:`BEFORE_SUMMARY`.
    """
    past = tokens.new_empty(*tokens.shape, count)
    for distance in range(count):
        past[:, :, distance] = tokens_before(tokens, distance, BEFORE_SUMMARY)
    return past[:, tokens.size(1) - rows :]


def copy_probability(
    attention: Tensor, source: CopySource, targets: Tensor, history: Tensor, continued: Tensor, vocabulary: int
) -> tuple[Tensor, Tensor]:
    """Return the probability of copying each target, and of selecting tokens that cannot be copied.

    A copy takes a token anywhere in the source, according to the attention. With probability ``continued``, it instead
    takes a token that follows an occurrence of the previous summary token. The weight of such a continuation grows by
    :data:`CONTEXT_FACTOR` with each additional preceding token that equals the summary's, so that the longest common
    passage continues. If there is no occurrence, or h is 0, all copies are of the first kind.

    Example: the document is ``a b a c``, its vectors receive equal attention, the summary ends in ``b a``, and h is 2.
    ``b`` follows ``a`` and weighs 1. ``c`` follows ``b a`` and weighs 100. A continuation is ``c`` with probability
    100 / 101.

    Args:
        attention: (B, t, k) from :func:`copy_attention`.
        source: of the same documents.
        targets: (B, t) int64 ids.
        history: (B, t, h) int64 from :func:`histories`, the h tokens before each target.
        continued: (B, t) probability of a continuation among copies, in [0, 1].
        vocabulary: V, greater than every id.

    Returns:
        (B, t) probability of the target; (B, t) probability of tokens that cannot be copied.
    """
    # 1. Copying from anywhere: (B, t) attention to all tokens equal to the target.
    anywhere = copied_mass(attention, source, *shared_numbers(source.tokens, targets))

    # 2. Continuing. `context`, (B, t), sums the attention to all tokens that follow the summary's last tokens, and
    # `context_and_target` to those of them that equal the target. Contexts of ``distance`` tokens are numbered.
    # A match of c tokens weighs CONTEXT_FACTOR ** (c - 1): each distance adds the difference to one token less.
    copyable = source.tokens >= 0
    floored = attention + CONTINUATION_FLOOR / attention.size(2)
    context = torch.zeros_like(anywhere)
    context_and_target = torch.zeros_like(anywhere)
    source_contexts = torch.zeros_like(source.tokens)  # contexts of no tokens are all equal
    target_contexts = torch.zeros_like(targets)
    factor = 1.0  # of a match of ``distance`` tokens
    for distance in range(1, history.size(2) + 1):
        target_before = history[:, :, distance - 1]
        source_contexts, target_contexts = _longer_contexts(
            source_contexts, target_contexts, source.tokens, target_before, distance, vocabulary
        )
        factor_of_shorter = factor / CONTEXT_FACTOR if distance > 1 else 0.0
        added = factor - factor_of_shorter
        keys = source_contexts.masked_fill(~copyable, NO_MATCH)
        context = context + added * copied_mass(floored, source, keys, target_contexts)
        keys_and_tokens = (source_contexts * vocabulary + source.tokens).masked_fill(keys < 0, NO_MATCH)
        numbers = shared_numbers(keys_and_tokens, target_contexts * vocabulary + targets)
        context_and_target = context_and_target + added * copied_mass(floored, source, *numbers)
        factor *= CONTEXT_FACTOR

    # 3. The mixture, (B, t). Without a common context, all copies are from anywhere.
    goes_on = context > 0
    following = torch.where(goes_on, context_and_target / context.masked_fill(~goes_on, 1), anywhere)
    return (1 - continued) * anywhere + continued * following, _lost_copies(attention, source, continued, goes_on)


def _longer_contexts(
    source_contexts: Tensor,
    target_contexts: Tensor,
    source_tokens: Tensor,
    target_before: Tensor,
    distance: int,
    vocabulary: int,
) -> tuple[Tensor, Tensor]:
    """Extend contexts, the last tokens before each token, by one more token. Equal contexts have equal numbers.

    Each pair (number, token) is encoded as one integer. These integers are then numbered from 0.

    Args:
        source_contexts: (B, n) numbers of the contexts of ``distance - 1`` tokens before each source token;
            :data:`NO_MATCH` for contexts that the summary does not have.
        target_contexts: (B, t) numbers of those before each target.
        source_tokens: (B, n) int64 ids.
        target_before: (B, t) int64, the tokens ``distance`` positions before the targets.
        distance: number of tokens of the longer contexts.
        vocabulary: V, greater than every id.

    Returns:
        (B, n) and (B, t) numbers of the longer contexts.
    """
    source_before = tokens_before(source_tokens, distance, NO_MATCH)
    source_longer = source_contexts * vocabulary + source_before
    source_longer = source_longer.masked_fill((source_contexts < 0) | (source_before < 0), NO_MATCH)
    # Without the mask, the integer before the start of the summary could equal that of a real passage.
    target_longer = (target_contexts * vocabulary + target_before).masked_fill(target_before < 0, BEFORE_SUMMARY)
    return shared_numbers(source_longer, target_longer)


def _lost_copies(attention: Tensor, source: CopySource, continued: Tensor, goes_on: Tensor) -> Tensor:
    """Return the probability of selecting tokens that cannot be copied: (B, t), 1 if no vector holds a token.

    Continuations select only tokens that can be copied, so they do not count where a passage ``goes_on``.
    """
    lost = (source.weights * (source.tokens < 0)).to(attention)
    masses = torch.zeros_like(attention[:, 0]).scatter_add(1, source.slots, lost)
    anywhere = (attention @ masses.unsqueeze(2)).squeeze(2).masked_fill(attention.sum(dim=2) <= 0, 1)
    return anywhere * (1 - continued * goes_on)


def token_copies(attention: Tensor, source: CopySource, history: Tensor, continued: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability of copying each source token, (B, t, n), and the remaining probability, (B, t).

    Both sum to one together. The arguments and the remaining probability are those of :func:`copy_probability`. Holds
    (B, t, n) elements, so it is meant for the few rows of a generation step and for explaining a summary.
    """
    at_slots = attention.gather(2, source.slots.unsqueeze(1).expand(-1, attention.size(1), -1))
    weights = (source.weights * (source.tokens >= 0)).unsqueeze(1).to(attention.dtype)
    anywhere = at_slots * weights
    if not history.size(2):
        return anywhere, _lost_copies(attention, source, continued, torch.zeros_like(continued, dtype=torch.bool))
    following = (at_slots + CONTINUATION_FLOOR / attention.size(2)) * weights
    following = following * _context_factors(source.tokens, history, following.dtype)
    context = following.sum(dim=2)
    goes_on = context > 0
    left = _lost_copies(attention, source, continued, goes_on)
    continued = continued * goes_on
    share = continued / context.masked_fill(~goes_on, 1)
    return torch.addcmul(anywhere * (1 - continued).unsqueeze(2), following, share.unsqueeze(2)), left


def _context_factors(tokens: Tensor, history: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight of each token as a continuation: (B, t, n), 0 if the token before it is another one."""
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
    """Return :func:`copy_probability` of the whole vocabulary, (B, t, V), and the remaining probability, (B, t).

    Holds (B, t, n) and (B, t, V) elements, so it is meant for the few rows of a generation step, and for criteria that
    need all probabilities.
    """
    copied, left = token_copies(attention, source, history, continued)
    index = source.tokens.clamp(min=0).unsqueeze(1).expand_as(copied)
    distribution = attention.new_zeros(*attention.shape[:2], vocabulary).scatter_add(2, index, copied)
    return distribution, left


def writing_gate(write: Tensor, copy: Tensor, left: Tensor) -> Tensor:
    """Return the log of the writing gate, to which the probability of impossible copies is added.

    Args:
        write, copy: (B, t) logs of the gates.
        left: (B, t) remaining probability of copying.
    """
    return torch.logaddexp(write, copy + left.clamp(min=torch.finfo(left.dtype).tiny).log())


def mix_log_probabilities(written: Tensor, write: Tensor, copied: Tensor, copy: Tensor) -> Tensor:
    """Return log(exp(write) * exp(written) + exp(copy) * copied), without underflow of the first term.

    Args:
        written: (..., V) or (...) log probabilities of writing from the vocabulary.
        write: log of the writing gate, broadcastable to ``written``.
        copied: probabilities of copying, same shape as ``written``.
        copy: log of the copying gate.

    Returns:
        Same shape as ``written``. The result and its gradient are finite even if ``copied`` is 0, because a number far
        below the dtype's rounding error is added to it (4e-29 in float32).
    """
    tiny = torch.finfo(copied.dtype).tiny ** 0.75
    return torch.logaddexp(written + write, (copied + tiny).log() + copy)


def mix_token_copies(written: Tensor, write: Tensor, copied: Tensor, copy: Tensor, tokens: Tensor) -> Tensor:
    """Compute :func:`mix_log_probabilities` from copy probabilities per source token: faster, without gradients.

    Args:
        written: (B, t, V) log probabilities of writing; overwritten.
        write, copy: (B, t) logs of the gates.
        copied: (B, t, n) from :func:`token_copies`.
        tokens: (B, n) int64 ids, -1 for tokens that cannot be copied.

    Returns:
        Same shape as ``written``.
    """
    written.add_(write.unsqueeze(2))
    index = tokens.clamp(min=0).unsqueeze(1).expand_as(copied)
    mixed = written.exp().scatter_add_(2, index, copied * copy.exp().unsqueeze(2)).log_()
    return torch.maximum(mixed, written, out=mixed)  # where `mixed` has underflowed
