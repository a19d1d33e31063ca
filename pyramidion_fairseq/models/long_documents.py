"""How fairseq's encoder reads documents that are sharded over ranks, or that are read in chunks."""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

from torch import Tensor, nn

from ..functional import Pooled
from ..parallel import Parts
from .chunked_encoder import ChunkedDocuments, Documents, with_first_pooling
from .encoder_layer import call_layer
from .pooled_encoder import CallLayer, Pool, PooledStates, run_pooled_layers
from .sequence_parallel import SequenceParallelDocuments


class DocumentBatch(NamedTuple):
    """Right-padded documents, or the part of them that a rank holds."""

    tokens: Tensor
    """(B, T) int64 ids."""
    padding_mask: Tensor | None
    """(B, T) bool, True on padding; None if nothing is padded."""
    document_lengths: Sequence[int] | None
    """Number of tokens of each document, if known on the host."""
    token_embeddings: Tensor | None
    """(B, T, C) replacement for the embeddings of ``tokens``, if any."""


def encode_part(encoder: Any, batch: DocumentBatch, keep_states: bool) -> PooledStates:
    """Encode this rank's part of a batch of whole documents."""
    group = encoder.sequence_group
    assert group is not None
    group.agree(batch.tokens, str(vars(encoder.options)))
    last = list(encoder.poolings.values())[-1]
    block = encoder.local_attention.block_size
    sharded = SequenceParallelDocuments(group, block, batch.padding_mask, batch.document_lengths, batch.tokens, last)
    part_start = Parts(batch.tokens.size(1), block, group.size).start(group.rank)
    part = DocumentBatch(
        sharded.cut(batch.tokens, encoder.padding_idx),
        sharded.cut_mask(),
        sharded.cut_lengths(),
        None if batch.token_embeddings is None else sharded.cut(batch.token_embeddings),
    )

    def call_on_part(
        layer: nn.Module, x: Tensor, key_padding_mask: Tensor | None, document_lengths: Sequence[int] | None
    ) -> tuple[Tensor, Tensor | None]:
        return call_layer(layer, x, key_padding_mask, document_lengths, sharded.shards)

    if reads_chunks(encoder, batch, keep_states):
        first_pooled, document_lengths = sharded.pool_in_chunks(_chunks(encoder, part, call_on_part, part_start))
        return _run_later_layers(encoder, first_pooled, document_lengths, call_on_part, sharded.pool)
    return run_pooled_layers(
        lambda: encoder.embed(part.tokens, part.padding_mask, part.token_embeddings, part_start),
        part.padding_mask,
        encoder.layers,
        encoder.poolings,
        call_on_part,
        document_lengths=part.document_lengths,
        global_tokens=encoder.global_tokens,
        layer_norm=encoder.layer_norm,
        keep_states=keep_states,
        pool=sharded.pool,
        holds_start=part_start == 0,
    )


def reads_chunks(encoder: Any, batch: DocumentBatch, keep_states: bool) -> bool:
    """Return whether the layers before the first pooling read whole documents in chunks."""
    return 0 < encoder.chunk_tokens < batch.tokens.size(1) and not keep_states


def encode_in_chunks(encoder: Any, batch: DocumentBatch) -> PooledStates:
    """Encode documents while the layers before the first pooling read :attr:`chunk_tokens` tokens at a time."""
    first_pooled, document_lengths = _chunks(encoder, batch, call_layer).pool()
    return _run_later_layers(encoder, first_pooled, document_lengths, call_layer)


def _chunks(encoder: Any, batch: DocumentBatch, run: CallLayer, part_start: int = 0) -> ChunkedDocuments:
    """Return documents, or a part of them that starts at token ``part_start``, to be read in chunks."""

    def embed(start: int, stop: int) -> Tensor:
        mask, given = (None if x is None else x[:, start:stop] for x in (batch.padding_mask, batch.token_embeddings))
        return encoder.embed(batch.tokens[:, start:stop], mask, given, part_start + start)

    documents = Documents(batch.tokens.size(1), batch.padding_mask, batch.document_lengths, embed)
    number, pooling = next(iter(encoder.poolings.items()))
    return ChunkedDocuments(documents, encoder.layers[: int(number)], pooling, run, encoder.chunk_tokens)


def _run_later_layers(
    encoder: Any,
    first_pooled: Pooled,
    document_lengths: Sequence[int] | None,
    run: CallLayer,
    pool: Pool | None = None,
) -> PooledStates:
    """Run the layers after the first pooling, given its result and the document lengths after it.

    Without global tokens: attentions that need them are not read in chunks here, but layer by layer.
    """
    number, pooling = next(iter(encoder.poolings.items()))
    later = run_pooled_layers(
        lambda: first_pooled.embeddings,
        first_pooled.padding_mask,
        encoder.layers[int(number) :],
        encoder.poolings,
        run,
        document_lengths=document_lengths,
        layer_norm=encoder.layer_norm,
        pool=pool,
        first_number=int(number) + 1,
    )
    return with_first_pooling(first_pooled, later, pooling.pooler.adds_scores_to_attention)
