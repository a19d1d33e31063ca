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
from .pooled_encoder import CallLayer, PooledStates, with_new_lengths
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

    Call :meth:`first_pass`, choose slots and weights by its scores, and pass them to :meth:`slot_sums` with the
    representations of the first pass.

    Args:
        documents: the batch, or the part of it.
        layers: layers before the pooling, none of which attends beyond its block.
        pooling: first pooling of the encoder; its pooler must read scores only.
        call_layer: function that runs one layer.
        chunk_tokens: number of tokens per chunk, a multiple of the block size.
    """

    def __init__(
        self, documents: Documents, layers: Sequence[nn.Module], pooling: Any, call_layer: CallLayer, chunk_tokens: int
    ):
        self.pooling = pooling
        self._documents, self._layers, self._call_layer = documents, layers, call_layer
        length = documents.length
        self._chunks = [slice(start, min(start + chunk_tokens, length)) for start in range(0, length, chunk_tokens)]
        self._scores_from_chunks = pooling.scorer is not None and not pooling.scorer.positional
        self._keeps_representations = torch.is_grad_enabled() or pooling.training

    def pool(self) -> tuple[Pooled, Sequence[int] | None]:
        """Run the layers before the first pooling, and pool, in chunks.

        Returns:
            The result of pooling whole documents, and the new document lengths.
        """
        pooling, mask = self.pooling, self._documents.padding_mask
        representations, scores = self.first_pass()
        if not self._scores_from_chunks:
            scores = pooling.score(representations, mask)
        representations, scores = pooling.keep_scorer_in_graph(representations, scores, self._documents.length)
        record = pooling.pool_scores(scores, mask)
        pooling.observe(scores, mask, record)
        k = record.embeddings.size(1)
        sums = self.slot_sums(representations, record.weights, record.slot_of_token, k)
        return with_new_lengths(pooling, record._replace(embeddings=sums), self._documents.document_lengths)

    def first_pass(self) -> tuple[Tensor, Tensor]:
        """Return the representations, (B, T, C), and their (B, T) scores.

        If :meth:`slot_sums` recomputes the representations, which it does without gradients, a placeholder (B, T, 1)
        is returned instead. The scores are a placeholder, too, if the scorer is positional or missing: the caller
        computes them for whole documents. A placeholder only tells B, T, dtype and device; its values are arbitrary.
        """
        if self._keeps_representations:
            results = [checkpoint(self._run_chunk, chunk, use_reentrant=False) for chunk in self._chunks]
            representations, scores = zip(*results)
            return torch.cat(representations, dim=1), torch.cat(scores, dim=1)
        placeholder = self._documents.embed(0, 1)[:, :, :1].expand(-1, self._documents.length, -1)
        if not self._scores_from_chunks:
            return placeholder, placeholder[:, :, 0]
        return placeholder, torch.cat([self._run_chunk(chunk)[1] for chunk in self._chunks], dim=1)

    def slot_sums(self, representations: Tensor, weights: Tensor, slots: Tensor, k: int) -> Tensor:
        """Sum the representations in their slots, in a second pass if :meth:`first_pass` did not keep them.

        Args:
            representations: those of :meth:`first_pass`; a placeholder is not read.
            weights, slots: (B, T) weight and slot of each token.
            k: number of slots.

        Returns:
            (B, k, C).
        """
        if self._keeps_representations:
            return partial_slot_sums(representations, weights, slots, k)
        sums: Tensor | None = None
        for chunk in self._chunks:
            part = partial_slot_sums(self._run_chunk(chunk)[0], weights[:, chunk], slots[:, chunk], k)
            sums = part if sums is None else sums + part
        assert sums is not None  # documents have a token
        return sums

    def _run_chunk(self, chunk: slice) -> tuple[Tensor, Tensor]:
        """Return a chunk after the layers, (B, c, C), and its (B, c) scores, or a placeholder for these."""
        x, attention = self._documents.embed(chunk.start, chunk.stop), None
        mask = None if self._documents.padding_mask is None else self._documents.padding_mask[:, chunk]
        document_lengths = lengths_between(self._documents.document_lengths, chunk.start, chunk.stop)
        for layer in self._layers:
            x, attention = self._call_layer(layer, x, mask, document_lengths)
        return x, self.pooling.score(x, mask, attention) if self._scores_from_chunks else x[:, :, 0]


def with_first_pooling(first: Pooled, later: PooledStates, adds_scores: bool) -> PooledStates:
    """Prepend the record of the first pooling to the result of the later layers.

    Args:
        first: result of the first pooling.
        later: result of the layers after it, whose record starts with the second pooling.
        adds_scores: whether the poolings add scores to the decoder's attention logits.
    """
    added_scores = later.added_scores
    if adds_scores:
        # Added up apart from the scores of the later poolings: in another order, floats would round otherwise.
        carried = first.scores  # (B, T_i), then (B, k_i): scores of the first pooling that each slot has received
        num_slots = [*(slots.size(1) for slots in later.slot_of_token[1:]), later.x.size(1)]  # of each later pooling
        for slots, weights, k in zip(later.slot_of_token, later.weights, num_slots):
            zeros = carried.new_zeros(len(carried), k)
            carried = zeros.scatter_add(1, slots, weights.to(carried.dtype) * carried)
        added_scores = carried if added_scores is None else added_scores + carried
    return later._replace(
        slot_of_token=[first.slot_of_token, *later.slot_of_token],
        weights=[first.weights, *later.weights],
        added_scores=added_scores,
    )
