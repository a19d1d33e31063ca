"""How fairseq's encoder reads documents of which this process holds a part, or reads some tokens at a time."""

from __future__ import annotations

from typing import Any, Sequence

from torch import Tensor, nn

from ..parallel import Parts
from .chunked_encoder import Documents, pool_in_chunks, with_first_pooling
from .encoder_layer import call_layer
from .pooled_encoder import PooledStates, run_pooled_layers
from .spread_documents import SpreadDocuments


def encode_part(
    encoder: Any,
    tokens: Tensor,
    padding_mask: Tensor | None,
    token_embeddings: Tensor | None,
    document_lengths: Sequence[int] | None,
    options: dict[str, Any],
) -> PooledStates:
    """Encode this rank's part of the documents; arguments are of whole ones."""
    group = encoder.sequence_group
    assert group is not None
    group.agree(tokens, str(vars(encoder.options)))
    last = list(encoder.poolings.values())[-1]
    block = encoder.local_attention.block_size
    spread = SpreadDocuments(group, block, padding_mask, document_lengths, tokens, last)
    start, mask = Parts(tokens.size(1), block, group.size).start(group.rank), spread.cut_mask()
    part = spread.cut(tokens, encoder.padding_idx)
    embeddings = None if token_embeddings is None else spread.cut(token_embeddings)

    def run(
        layer: nn.Module, x: Tensor, key_padding_mask: Tensor | None, document_lengths: Sequence[int] | None
    ) -> tuple[Tensor, Tensor | None]:
        return call_layer(layer, x, key_padding_mask, document_lengths, spread.spread)

    return run_pooled_layers(
        lambda: encoder.embed(part, mask, embeddings, start),
        mask,
        encoder.layers,
        encoder.poolings,
        run,
        document_lengths=spread.cut_lengths(),
        pool=spread.pool,
        holds_start=start == 0,
        **options,
    )


def encode_in_chunks(
    encoder: Any,
    tokens: Tensor,
    padding_mask: Tensor | None,
    token_embeddings: Tensor | None,
    document_lengths: Sequence[int] | None,
    options: dict[str, Any],
) -> PooledStates:
    """Encode documents whose layers before the first pooling read :attr:`chunk_tokens` at a time."""

    def embed(start: int, stop: int) -> Tensor:
        mask, given = (None if x is None else x[:, start:stop] for x in (padding_mask, token_embeddings))
        return encoder.embed(tokens[:, start:stop], mask, given, start)

    documents = Documents(tokens.size(1), padding_mask, document_lengths, embed)
    number, pooling = next(iter(encoder.poolings.items()))
    before, after = encoder.layers[: int(number)], encoder.layers[int(number) :]
    first, lengths = pool_in_chunks(documents, before, pooling, call_layer, encoder.chunk_tokens)
    later = {int(layer) - int(number): module for layer, module in encoder.poolings.items() if layer != number}
    poolings = nn.ModuleDict({str(layer): module for layer, module in later.items()})
    states = run_pooled_layers(
        lambda: first.embeddings,
        first.padding_mask,
        after,
        poolings,
        call_layer,
        document_lengths=lengths,
        **options,
    )
    return with_first_pooling(first, states, pooling.pooler.adds_scores_to_attention)
