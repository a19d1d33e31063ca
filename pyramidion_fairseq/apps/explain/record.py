"""What one model did to one document: the record of its poolings, and what the decoder read of them."""

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
    """Of one document of n tokens (``</s>`` and what follows it counted) and its summary of t tokens, on the CPU."""

    lengths: tuple[Length, ...]
    """Vectors at each stage: "document", "after layer ..." and, where it differs, "seen by the decoder"."""
    stages: tuple[tuple[str, TokenRecord], ...]
    """(name, record of (n,)) after each pooling."""
    decoder: TokenRecord
    """(n,) the same for the vectors that the decoder reads."""
    attention: Tensor
    """(t, k) what each summary token read of them; global tokens left out, so rows may sum to less than one."""
    copies: TokenCopies | None = None
    """Which summary tokens were copied, and from where; None where the model has no pointer."""

    def source_weights(self, start: int = 0, end: int | None = None) -> Tensor:
        """Return (end - start, n): how much each summary token read of each of the document's tokens."""
        record = TokenRecord(*(part.unsqueeze(0) for part in self.decoder))
        return attention_to_tokens(self.attention[start:end].unsqueeze(0), record)[0]


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where a summary came from."""

    document: DocumentWords
    """The document's words, among them those that the model read."""
    left_out: int
    """Words of the document after those, not even listed."""
    title: str | None
    source: TokenizedText
    """The tokens that the models read, ``</s>`` left out, and their words."""
    summary: TokenizedText
    """The tokens of the summary, ``</s>`` left out, and their words."""
    models: tuple[ModelRecord, ...]
    """One per model of the ensemble."""
    facts: ModelFacts
    reference: str | None = None
    """A summary of the document by somebody else."""

    @property
    def token_words(self) -> Tensor:
        """Return (n,) the word of each token that the models read; -1 for ``</s>`` and a language after it."""
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
        encoder_out: what it returned for B documents.
        attention: (B, t, k) of :func:`~pyramidion_fairseq.apps.explain.attention.read_summaries`.
        steps: tokens of each summary that count.
        copies: of the same function, of a model with a pointer.
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
