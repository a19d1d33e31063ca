"""The record of a model's poolings for a document, and the decoder's attention to the pooled vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import torch
from torch import Tensor

from ...functional import TokenRecord, attention_to_tokens, compose_poolings
from ...generation.encoder_output import POOLING_SLOTS, POOLING_WEIGHTS
from ...text import DocumentWords, TokenizedText
from .copies import TokenCopies
from .types import Length, ModelFacts


@dataclass(frozen=True, eq=False)
class ModelRecord:
    """The record of a document of n tokens (with ``</s>`` and what follows) and its summary of t tokens; on CPU."""

    lengths: tuple[Length, ...]
    """Number of vectors at each stage: "document", "after layer ..." and, if different, "seen by the decoder"."""
    stages: tuple[tuple[str, TokenRecord], ...]
    """(name, record of (n,)) after each pooling."""
    decoder: TokenRecord
    """The (n,) record of the vectors that the decoder reads."""
    attention: Tensor
    """(t, k) attention of each summary token to these vectors, without global tokens: rows may sum to less than 1."""
    copies: TokenCopies | None = None
    """The copies of the summary tokens; None if the model has no pointer."""

    def source_weights(self, start: int = 0, end: int | None = None) -> Tensor:
        """Return (end - start, n): how much each summary token read of each document token."""
        record = TokenRecord(*(part.unsqueeze(0) for part in self.decoder))
        return attention_to_tokens(self.attention[start:end].unsqueeze(0), record)[0]


@dataclass(frozen=True, eq=False)
class Provenance:
    """The record and the attention of a summary, in tokens."""

    document: DocumentWords
    """The words of the document that are listed, including those that the model read."""
    left_out: int
    """Number of words of the document after the listed ones."""
    title: str | None
    source: TokenizedText
    """The tokens that the models read, without ``</s>``, and their words."""
    summary: TokenizedText
    """The tokens of the summary, without ``</s>``, and their words."""
    models: tuple[ModelRecord, ...]
    """One per model of the ensemble."""
    facts: ModelFacts
    reference: str | None = None
    """The reference summary."""

    @property
    def token_words(self) -> Tensor:
        """Return (n,): the index of each token's word; -1 for ``</s>`` and a language token after it."""
        words = self.source.token_words
        found = torch.full_like(self.models[0].decoder.slots, -1, dtype=torch.long)
        found[: len(words)] = torch.tensor(words)
        return found


def read_records(
    encoder: Any,
    encoder_out: dict[str, list[Tensor]],
    attention: Tensor,
    steps: Sequence[int],
    copies: Sequence[TokenCopies] | None = None,
) -> list[ModelRecord]:
    """Return the records of a batch.

    Args:
        encoder: a PyramidionEncoder.
        encoder_out: its output for B documents.
        attention: (B, t, k) from :func:`~pyramidion_fairseq.apps.explain.attention.read_summaries`.
        steps: number of tokens of each summary.
        copies: copies from the same function, if the model has a pointer.
    """
    lengths = [int(length) for length in encoder_out["src_lengths"][0].flatten()]
    records = compose_poolings(encoder_out[POOLING_SLOTS], encoder_out[POOLING_WEIGHTS])
    names = [f"after layer {layer}" for layer in encoder.poolings]
    decoder = encoder.decoder_record(
        encoder_out[POOLING_SLOTS], encoder_out[POOLING_WEIGHTS], encoder_out["src_lengths"][0], max(lengths)
    )
    attention = attention[:, :, encoder.output_globals :]
    visible = (~encoder_out["encoder_padding_mask"][0]).sum(dim=1).tolist()
    return [
        ModelRecord(
            _lengths(encoder, length, visible[row]),
            tuple((name, _row(record, row, length)) for name, record in zip(names, records)),
            _row(decoder, row, length),
            attention[row, : steps[row]].cpu(),
            copies[row].first_tokens(steps[row]) if copies else None,
        )
        for row, length in enumerate(lengths)
    ]


def _lengths(encoder: Any, length: int, visible: int) -> tuple[Length, ...]:
    lengths = [Length("document", length)]
    for layer, pooling in encoder.poolings.items():
        length = pooling.pooler.output_length(length, pooling.k)
        lengths.append(Length(f"after layer {layer}", length))
    if visible != length:
        lengths.append(Length("seen by the decoder", visible))
    return tuple(lengths)


def _row(record: TokenRecord, row: int, length: int) -> TokenRecord:
    return TokenRecord(record.slots[row, :length].cpu(), record.weights[row, :length].cpu())
