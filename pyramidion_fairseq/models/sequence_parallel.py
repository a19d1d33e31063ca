"""Encoding documents that are sharded over several ranks. Each rank holds consecutive blocks of all documents.

Layers whose attention stays within a block need nothing from other ranks. A pooling gathers the scores of all tokens,
one number per token. Every rank runs the same tournament on them, and so knows the slot and weight of every token. The
slot sums over the tokens of each rank are added up, and every rank keeps its part of the k vectors. After the last
pooling all ranks hold all vectors, and do the same computation from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import PyramidionError
from ..functional import Pooled, partial_slot_sums
from ..parallel import Parts, SequenceGroup, TokenShards
from .pooled_encoder import with_new_lengths

if TYPE_CHECKING:
    from .chunked_encoder import ChunkedDocuments


def check_sequence_parallel(attention: Any, poolings: nn.ModuleDict, option: str) -> None:
    """Raise an error if an encoder's documents can neither be sharded over ranks nor be read in chunks.

    Args:
        attention: attention of a layer.
        poolings: poolings of the encoder.
        option: the option that requires it, for the error message.

    Raises:
        PyramidionError: the attention is not local, the encoder never pools, or a pooler or scorer needs all tokens at
            once.
    """
    if not attention.supports_sequence_parallel:
        raise PyramidionError(
            f"{option}: the attention of {type(attention).__name__} is not local, every token may need every other: "
            "take --attention blockwise or lsg"
        )
    check_attention_sums(attention, poolings, option)
    if not poolings:
        raise PyramidionError(f"{option} needs a --pooling-schedule: without one, the decoder reads whole documents")
    for pooling in poolings.values():
        pooler: Any = pooling.pooler
        if pooler.upsamples or pooler.reads_representations or not type(pooler).exact_record:
            raise PyramidionError(
                f"{option}: {type(pooler).__name__} needs all tokens in one place: take --pooler successive_halving, "
                "hard_topk, nugget_topk, threshold_topk or mean_window"
            )
        scorer: Any = pooling.scorer
        if scorer is not None and scorer.needs_whole_documents:
            raise PyramidionError(
                f"{option}: {type(scorer).__name__} rates a token by more than itself, and would see a "
                "part of its document: take --scorer linear or nonlinear"
            )


def check_chunks(attention: Any, poolings: nn.ModuleDict, tokens: int) -> None:
    """Raise an error if an encoder cannot read its documents in chunks; see :func:`check_sequence_parallel`.

    If blocks attend to more than themselves (LSG), documents are read layer by layer, and the poolings read whole
    documents.

    Raises:
        PyramidionError: see :func:`check_sequence_parallel`; or a scorer reads the attention of all tokens.
    """
    option = f"--encoder-chunk-tokens {tokens}"
    if tokens < 1:
        raise PyramidionError(f"{option} must be at least 1, or 0: whole documents")
    if not attention.halo:
        check_sequence_parallel(attention, poolings, option)
    else:
        check_attention_sums(attention, poolings, option)


def check_attention_sums(attention: Any, poolings: nn.ModuleDict, option: str) -> None:
    """Raise an error if a scorer sums attention while a part of the document is also attended to from other parts.

    Raises:
        PyramidionError: there is such a scorer, and the attention has a halo.
    """
    if attention.halo and any(pooling.needs_attention for pooling in poolings.values()):
        raise PyramidionError(
            f"{option}: --scorer attention_sum adds up the attention of all tokens, which {type(attention).__name__} "
            "has in no one place: take another --scorer, or --attention blockwise"
        )


def lengths_between(document_lengths: Sequence[int] | None, start: int, stop: int) -> list[int] | None:
    """Return how many tokens of each document lie in [start, stop); None if lengths are unknown or no token does."""
    inside = [] if document_lengths is None else [min(max(0, n - start), stop - start) for n in document_lengths]
    return inside if any(inside) else None


class SequenceParallelDocuments:
    """A batch of documents sharded over the ranks of a group, on its way through the encoder.

    ``padding_mask`` and ``document_lengths`` describe whole documents, and ``parts`` the columns that each rank holds:
    tokens, or after a pooling its slots. ``parts`` is None after the last pooling: every rank then holds all vectors.

    Args:
        group: group of the ranks.
        block: number of tokens per attention block.
        padding_mask: (B, T) bool mask of whole documents, or None.
        document_lengths: lengths of whole documents, if known on the host.
        tokens: (B, T) ids.
        last: last pooling of the encoder.
    """

    def __init__(
        self,
        group: SequenceGroup,
        block: int,
        padding_mask: Tensor | None,
        document_lengths: Sequence[int] | None,
        tokens: Tensor,
        last: nn.Module,
    ):
        self.group, self.block, self.last = group, block, last
        self.padding_mask, self.document_lengths = padding_mask, document_lengths
        self.parts: Parts | None = Parts(tokens.size(1), block, group.size)
        self.num_poolings_done = 0
        self._padding_column = torch.ones_like(tokens[:, :1], dtype=torch.bool)

    @property
    def shards(self) -> TokenShards | None:
        """Return the shards of the tokens read by the next layer, or None if every rank holds all tokens."""
        return None if self.parts is None else TokenShards(self.group, self.parts)

    def cut(self, x: Tensor, padding: float = 0) -> Tensor:
        """Return this rank's columns of (B, T, ...), which may be all. An empty part becomes one column of padding."""
        if self.parts is None:
            return x
        start, stop = self.parts.start(self.group.rank), self.parts.stop(self.group.rank)
        if start < stop:
            return x[:, start:stop]
        # Stays in the graph, because all ranks must take part in the collectives of the backward pass.
        return x[:, :1] * 0 if x.requires_grad else torch.full_like(x[:, :1], padding)

    def cut_mask(self) -> Tensor | None:
        """Return the (B, W) bool padding mask of this rank's columns, or None if no document is padded."""
        if self.padding_mask is not None:
            return self.cut(self.padding_mask, True)
        is_empty = self.parts is not None and not self.parts.width(self.group.rank)
        return self._padding_column if is_empty else None

    def cut_lengths(self) -> list[int] | None:
        """Return the number of tokens of each document in this part; None if unknown on the host or if all are 0."""
        if self.parts is None or self.document_lengths is None:
            return None if self.document_lengths is None else list(self.document_lengths)
        start, stop = self.parts.start(self.group.rank), self.parts.stop(self.group.rank)
        return lengths_between(self.document_lengths, start, stop)

    def pool(
        self,
        pooling: Any,
        documents: Tensor,
        padding_mask: Tensor | None,
        attention: Tensor | None,
        document_lengths: Sequence[int] | None,
    ) -> tuple[Pooled, Sequence[int] | None]:
        """Pool (B, W, C) of each rank; see :data:`~pyramidion_fairseq.models.pooled_encoder.Pool`.

        The result holds this rank's part of the pooled vectors (all of them after the last pooling), and scores, slots
        and weights of whole documents.
        """
        scores = None if _is_positional(pooling) else pooling.score(documents, padding_mask, attention)
        return self._pool(pooling, documents, scores, partial_slot_sums)

    def pool_in_chunks(self, chunks: ChunkedDocuments) -> tuple[Pooled, Sequence[int] | None]:
        """Pool like :meth:`pool`, while this rank's part of the documents is read in chunks."""
        representations, scores = chunks.first_pass()
        return self._pool(chunks.pooling, representations, scores, chunks.slot_sums)

    def _pool(
        self, pooling: Any, documents: Tensor, scores: Tensor | None, slot_sums: Callable[..., Tensor]
    ) -> tuple[Pooled, Sequence[int] | None]:
        """Pool (B, W, C) of each rank. The (B, W) scores are ignored, and may be None, for a positional scorer."""
        assert self.parts is not None  # nothing pools after the last pooling
        self.num_poolings_done += 1
        what = f"pooling {self.num_poolings_done}"
        documents, scores = self._gather_scores(pooling, documents, scores, self.parts, f"scores of {what}")
        record = pooling.pool_scores(scores, self.padding_mask)
        pooling.observe(scores, self.padding_mask, record)
        k = record.embeddings.size(1)
        sums = slot_sums(documents, self.cut(record.weights), self.cut(record.slot_of_token), k)
        # Up to here, the parts and masks of this object are of tokens; from here on, of slots.
        slots = self._enter_slots(pooling, record)
        vectors = self.group.reduce_columns(sums, slots, f"slots of {what}")
        if pooling is self.last:
            vectors = self.group.gather_columns(vectors, slots, f"vectors of {what}")
            self.parts = None
        return record._replace(embeddings=vectors, padding_mask=self.cut_mask()), self.cut_lengths()

    def _enter_slots(self, pooling: Any, record: Pooled) -> Parts:
        """Replace mask, lengths and parts of tokens by those of the slots of a pooling, and return the parts."""
        record, self.document_lengths = with_new_lengths(pooling, record, self.document_lengths)
        self.padding_mask = record.padding_mask
        self.parts = Parts(record.embeddings.size(1), self.block, self.group.size)
        return self.parts

    def _gather_scores(
        self, pooling: Any, documents: Tensor, scores: Tensor | None, parts: Parts, what: str
    ) -> tuple[Tensor, Tensor]:
        """Return this rank's documents and the scores of all tokens: (B, W, C), (B, W) -> (B, W, C), (B, T)."""
        if scores is None or _is_positional(pooling):
            # Positional scores depend on positions in whole documents, and random ones must be equal on all ranks.
            whole = documents.new_zeros(()).expand(len(documents), parts.length, 1)
            scores = self.cut(pooling.score(whole, self.padding_mask))
        documents, scores = pooling.keep_scorer_in_graph(documents, scores, parts.length)
        if pooling.scorer is None:
            exact = torch.promote_types(scores.dtype, torch.float32)
            return documents, scores.new_zeros(len(scores), parts.length, dtype=exact)
        return documents, self.group.gather_columns(scores, parts, what)


def _is_positional(pooling: Any) -> bool:
    return pooling.scorer is not None and pooling.scorer.positional
