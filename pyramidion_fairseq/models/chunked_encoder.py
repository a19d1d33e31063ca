"""Encoding very long documents on one device: the layers before the first pooling read chunks of blocks.

Without gradients, only one score per token is kept at full length. A first pass over the chunks scores the tokens. A
second pass recomputes their representations and sums them in their slots. This doubles the time of these layers,
unless scores come from positions or are not used. With gradients (and if dropout would differ between the passes)
there is one pass: it keeps the representations that are pooled, and the backward pass recomputes each chunk.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..functional import Pooled, partial_slot_sums
from .pooled_encoder import CallLayer, PooledStates
from .sequence_parallel import lengths_between


class Documents(NamedTuple):
    """A batch before its embedding, or the part of it that a rank holds."""

    length: int
    """T, padded length."""
    padding_mask: Tensor | None
    """(B, T) bool, True on padding; None if nothing is padded."""
    document_lengths: Sequence[int] | None
    """Number of tokens of each document, if known on the host."""
    embed: Callable[[int, int], Tensor]
    """Embeds the tokens from ``start`` to ``stop``: (B, stop - start, C)."""


class ChunkedDocuments:
    """A batch, or a rank's part of it, that is read in chunks by the layers before the first pooling.

    Args:
        documents: the batch, or the part of it.
        layers: layers before the pooling, none of which attends beyond its block.
        pooling: first pooling of the encoder; its pooler must read scores only.
        call_layer: function that runs one layer.
        chunk: number of tokens per chunk, a multiple of the block size.
    """

    def __init__(
        self, documents: Documents, layers: Sequence[nn.Module], pooling: Any, call_layer: CallLayer, chunk: int
    ):
        self._documents, self._layers, self._pooling, self._call_layer = documents, layers, pooling, call_layer
        self._pieces = [
            slice(start, min(start + chunk, documents.length)) for start in range(0, documents.length, chunk)
        ]
        self._scores_from_chunks = pooling.scorer is not None and not pooling.scorer.positional
        self._keeps_representations = torch.is_grad_enabled() or pooling.training

    def read(self) -> tuple[Tensor, Tensor]:
        """Return the representations, (B, T, C), and their (B, T) scores.

        Without gradients, the representations are a placeholder with one column. Scores are also a placeholder if the
        scorer is positional or missing; such scores are computed for whole documents.
        """
        if self._keeps_representations:
            parts = [checkpoint(self._states, piece, use_reentrant=False) for piece in self._pieces]
            rows, scores = zip(*parts)
            return torch.cat(rows, dim=1), torch.cat(scores, dim=1)
        nothing = self._documents.embed(0, 1)[:, :, :1].expand(-1, self._documents.length, -1)
        if not self._scores_from_chunks:
            return nothing, nothing[:, :, 0]
        return nothing, torch.cat([self._states(piece)[1] for piece in self._pieces], dim=1)

    def slot_sums(self, rows: Tensor, weights: Tensor, slots: Tensor, k: int) -> Tensor:
        """Sum the representations from :meth:`read` in their slots: (B, T) weights and slots -> (B, k, C)."""
        if self._keeps_representations:
            return partial_slot_sums(rows, weights, slots, k)
        sums: Tensor | None = None
        for piece in self._pieces:
            part = partial_slot_sums(self._states(piece)[0], weights[:, piece], slots[:, piece], k)
            sums = part if sums is None else sums + part
        assert sums is not None  # documents have a token
        return sums

    def _states(self, piece: slice) -> tuple[Tensor, Tensor]:
        """Return a chunk after the layers, (B, c, C), and its (B, c) scores; see :meth:`read`."""
        x, attention = self._documents.embed(piece.start, piece.stop), None
        mask = None if self._documents.padding_mask is None else self._documents.padding_mask[:, piece]
        document_lengths = lengths_between(self._documents.document_lengths, piece.start, piece.stop)
        for layer in self._layers:
            x, attention = self._call_layer(layer, x, mask, document_lengths)
        return x, self._pooling.score(x, mask, attention) if self._scores_from_chunks else x[:, :, 0]


def pool_in_chunks(
    documents: Documents, chunks: ChunkedDocuments, pooling: Any
) -> tuple[Pooled, Sequence[int] | None]:
    """Run the layers before the first pooling, and pool, in chunks.

    Returns:
        The result of pooling whole documents, and the new document lengths.
    """
    mask = documents.padding_mask
    rows, scores = chunks.read()
    if pooling.scorer is None or pooling.scorer.positional:
        scores = pooling.score(rows, mask)
    rows, scores = pooling.keep_scorer_in_graph(rows, scores, documents.length)
    record = pooling.record(scores, mask)
    pooling.observe(scores, mask, record)
    k = record.embeddings.size(1)
    sums = chunks.slot_sums(rows, record.weights, record.slot_of_token, k)
    document_lengths = documents.document_lengths
    if document_lengths is not None:
        document_lengths = pooling.lengths_after(document_lengths)
    if document_lengths is not None and min(document_lengths) == k:
        record = record._replace(padding_mask=None)
    return record._replace(embeddings=sums), document_lengths


def with_first_pooling(first: Pooled, later: PooledStates, adds_scores: bool) -> PooledStates:
    """Prepend the record of the first pooling to the result of the later layers."""
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
