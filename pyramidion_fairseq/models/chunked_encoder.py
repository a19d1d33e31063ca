"""Encoding very long documents on one device: the layers before the first pooling read some blocks at a time.

Without gradients nothing of full length is kept but a score for each token: a first pass over the chunks scores them,
a second one computes their representations again and adds them up in their slots. That is twice the time of these
layers, and once where scores come from positions or are not used. With gradients (and where dropout would differ
between the passes) there is one pass: it keeps the representations that are pooled, and the backward pass computes
each chunk again.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, NamedTuple, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..functional import Pooled, partial_slot_sums
from .pooled_encoder import CallLayer, PooledStates
from .spread_documents import lengths_between


class Documents(NamedTuple):
    """A batch before its embedding."""

    length: int
    """T."""
    padding_mask: Tensor | None
    """(B, T) bool, True on padding; None where nothing is padded."""
    lengths: Sequence[int] | None
    """Tokens of each document, where the host knows them."""
    embed: Callable[[int, int], Tensor]
    """Returns the embedded tokens from ``start`` to ``stop``: (B, stop - start, C)."""


def pool_in_chunks(
    documents: Documents, layers: Sequence[nn.Module], pooling: Any, call_layer: CallLayer, chunk: int
) -> tuple[Pooled, Sequence[int] | None]:
    """Run the layers before the first pooling, and pool, some tokens at a time.

    Args:
        documents: the batch.
        layers: those before the pooling, none of which looks beyond its block.
        pooling: of the encoder; its pooler looks at scores alone.
        call_layer: runs one layer.
        chunk: tokens, a multiple of the block.

    Returns:
        What the pooling of whole documents returns, and the new lengths.
    """
    mask = documents.padding_mask
    keeps = torch.is_grad_enabled() or pooling.training
    rows: Tensor | None = None
    if keeps:
        parts = [_recomputed(documents, layers, pooling, call_layer, piece) for piece in _pieces(documents, chunk)]
        rows, scores = (torch.cat(columns, dim=1) for columns in zip(*parts))
        if pooling.scorer is None or pooling.scorer.positional:
            scores = pooling.score(rows, mask)
        rows, scores = pooling.tie(rows, scores, documents.length)
    else:
        scores = _scores(documents, layers, pooling, call_layer, chunk)
    record = pooling.record(scores, mask)
    pooling.observe(scores, mask, record)
    k, sums = record.embeddings.size(1), None
    pieces = [slice(0, documents.length)] if keeps else _pieces(documents, chunk)
    for piece in pieces:
        x = _states(documents, layers, call_layer, piece)[0] if rows is None else rows
        part = partial_slot_sums(x, record.weights[:, piece], record.slot_of_token[:, piece], k)
        sums = part if sums is None else sums + part
    lengths = None if documents.lengths is None else pooling.lengths_after(documents.lengths)
    if lengths is not None and min(lengths) == k:
        record = record._replace(padding_mask=None)
    return record._replace(embeddings=sums), lengths


def with_first_pooling(first: Pooled, later: PooledStates, adds_scores: bool) -> PooledStates:
    """Put the first pooling's record before what the later layers returned."""
    added = later.added_scores
    if adds_scores:
        before = first.scores
        widths = [slots.size(1) for slots in later.slot_of_token[1:]] + [later.x.size(1)]
        for slots, weights, width in zip(later.slot_of_token, later.weights, widths):
            zeros = before.new_zeros(len(before), width)
            before = zeros.scatter_add(1, slots, weights.to(before.dtype) * before)
        added = before if added is None else added + before
    return later._replace(
        slot_of_token=[first.slot_of_token, *later.slot_of_token],
        weights=[first.weights, *later.weights],
        added_scores=added,
    )


def _pieces(documents: Documents, chunk: int) -> Iterator[slice]:
    """Yield the chunks of the documents."""
    for start in range(0, documents.length, chunk):
        yield slice(start, min(start + chunk, documents.length))


def _mask_of(documents: Documents, piece: slice) -> Tensor | None:
    return None if documents.padding_mask is None else documents.padding_mask[:, piece]


def _states(
    documents: Documents, layers: Sequence[nn.Module], call_layer: CallLayer, piece: slice
) -> tuple[Tensor, Tensor | None]:
    """Return a chunk after the layers, (B, c, C), and the last one's (B, c) column sums, where it reports them."""
    x, attention = documents.embed(piece.start, piece.stop), None
    lengths = lengths_between(documents.lengths, piece.start, piece.stop)
    for layer in layers:
        x, attention = call_layer(layer, x, _mask_of(documents, piece), lengths)
    return x, attention


def _scores(
    documents: Documents, layers: Sequence[nn.Module], pooling: Any, call_layer: CallLayer, chunk: int
) -> Tensor:
    """Return the scores of all tokens, (B, T), nothing else of which is kept."""
    if pooling.scorer is None or pooling.scorer.positional:
        whole = documents.embed(0, 1)[:, :, :1]
        return pooling.score(whole.expand(-1, documents.length, -1), documents.padding_mask)
    scores = []
    for piece in _pieces(documents, chunk):
        x, attention = _states(documents, layers, call_layer, piece)
        scores.append(pooling.score(x, _mask_of(documents, piece), attention))
    return torch.cat(scores, dim=1)


def _recomputed(
    documents: Documents, layers: Sequence[nn.Module], pooling: Any, call_layer: CallLayer, piece: slice
) -> tuple[Tensor, Tensor]:
    """Return a chunk after the layers, and its scores, whose inside is computed again in the backward pass."""

    def compute() -> tuple[Tensor, Tensor]:
        x, attention = _states(documents, layers, call_layer, piece)
        if pooling.scorer is None or pooling.scorer.positional:  # scored as whole documents
            return x, x[:, :, 0]
        return x, pooling.score(x, _mask_of(documents, piece), attention)

    found: tuple[Tensor, Tensor] = checkpoint(compute, use_reentrant=False)
    return found
