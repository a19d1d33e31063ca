"""How fairseq's encoder reads documents that are sharded over ranks, or that are read in chunks."""

from __future__ import annotations

from typing import Any, Sequence

from torch import Tensor, nn

from ..parallel import Parts
from .chunked_encoder import ChunkedDocuments, Documents, pool_in_chunks, with_first_pooling
from .encoder_layer import call_layer
from .pooled_encoder import CallLayer, PooledStates, run_pooled_layers
from .sequence_parallel import SequenceParallelDocuments


def encode_part(
    encoder: Any,
    tokens: Tensor,
    padding_mask: Tensor | None,
    token_embeddings: Tensor | None,
    document_lengths: Sequence[int] | None,
    options: dict[str, Any],
) -> PooledStates:
    """Encode this rank's part of the documents. The arguments are those of whole documents."""
    group = encoder.sequence_group
    assert group is not None
    group.agree(tokens, str(vars(encoder.options)))
    last = list(encoder.poolings.values())[-1]
    block = encoder.local_attention.block_size
    sharded = SequenceParallelDocuments(group, block, padding_mask, document_lengths, tokens, last)
    first, mask = Parts(tokens.size(1), block, group.size).start(group.rank), sharded.cut_mask()
    part = sharded.cut(tokens, encoder.padding_idx)
    embeddings = None if token_embeddings is None else sharded.cut(token_embeddings)

    def run(
        layer: nn.Module, x: Tensor, key_padding_mask: Tensor | None, document_lengths: Sequence[int] | None
    ) -> tuple[Tensor, Tensor | None]:
        return call_layer(layer, x, key_padding_mask, document_lengths, sharded.shards)

    options.update(pool=sharded.pool, holds_start=first == 0)
    if reads_chunks(encoder, tokens, options):
        documents = _documents(encoder, part, mask, embeddings, sharded.cut_lengths(), first)
        return _run_chunked(encoder, documents, run, options, sharded)
    return run_pooled_layers(
        lambda: encoder.embed(part, mask, embeddings, first),
        mask,
        encoder.layers,
        encoder.poolings,
        run,
        document_lengths=sharded.cut_lengths(),
        **options,
    )


def reads_chunks(encoder: Any, tokens: Tensor, options: dict[str, Any]) -> bool:
    """Return whether the layers before the first pooling read (B, T) documents in chunks."""
    return 0 < encoder.chunk_tokens < tokens.size(1) and not options["keep_states"]


def encode_in_chunks(
    encoder: Any,
    tokens: Tensor,
    padding_mask: Tensor | None,
    token_embeddings: Tensor | None,
    document_lengths: Sequence[int] | None,
    options: dict[str, Any],
) -> PooledStates:
    """Encode documents while the layers before the first pooling read :attr:`chunk_tokens` tokens at a time."""
    documents = _documents(encoder, tokens, padding_mask, token_embeddings, document_lengths, 0)
    return _run_chunked(encoder, documents, call_layer, options, None)


def _documents(
    encoder: Any,
    tokens: Tensor,
    padding_mask: Tensor | None,
    token_embeddings: Tensor | None,
    document_lengths: Sequence[int] | None,
    first: int,
) -> Documents:
    """Return documents to be read in chunks, or a part of them that starts at token ``first``."""

    def embed(start: int, stop: int) -> Tensor:
        mask, given = (None if x is None else x[:, start:stop] for x in (padding_mask, token_embeddings))
        return encoder.embed(tokens[:, start:stop], mask, given, first + start)

    return Documents(tokens.size(1), padding_mask, document_lengths, embed)


def _run_chunked(
    encoder: Any,
    documents: Documents,
    run: CallLayer,
    options: dict[str, Any],
    sharded: SequenceParallelDocuments | None,
) -> PooledStates:
    """Run all layers, those before the first pooling in chunks.

    ``sharded`` is the whole batch if ``documents`` is this rank's part of it, otherwise None.
    """
    number, pooling = next(iter(encoder.poolings.items()))
    before, after = encoder.layers[: int(number)], encoder.layers[int(number) :]
    chunks = ChunkedDocuments(documents, before, pooling, run, encoder.chunk_tokens)
    if sharded is None:
        first, document_lengths = pool_in_chunks(documents, chunks, pooling)
    else:
        first, document_lengths = sharded.pool_in_chunks(pooling, chunks)
    later = {int(layer) - int(number): module for layer, module in encoder.poolings.items() if layer != number}
    poolings = nn.ModuleDict({str(layer): module for layer, module in later.items()})
    states = run_pooled_layers(
        lambda: first.embeddings,
        first.padding_mask,
        after,
        poolings,
        run,
        document_lengths=document_lengths,
        **options,
    )
    return with_first_pooling(first, states, pooling.pooler.adds_scores_to_attention)
