"""What the decoder remembers between two steps of generation: keys and values of summaries and documents."""

from __future__ import annotations

import torch
from torch import Tensor

from .cross_attention import CrossAttention
from .hypotheses import regroup

#: Positions by which the caches grow: seldom enough that copying them does not count, little enough to fit.
GROWTH = 64
#: The same where steps are CUDA graphs: each growth costs a capture.
GRAPH_GROWTH = 256


class DecodingState:
    """Keys and values of every decoder layer, for B documents with the same number of hypotheses (the beam) each.

    Documents: one pair a layer, read by all hypotheses of a document, as
    :class:`~.cross_attention.CrossAttention` laid it out.

    Summaries: one (B, H, positions, D) pair a layer. Every step writes one position of the cache for each hypothesis
    and never moves it. ``attn_mask`` says which positions belong to a hypothesis. When the search repeats one
    hypothesis and drops another, only that mask is reordered; all hypotheses of a document read the same keys and
    values.

    Args:
        documents: a (keys, values) pair for each layer, from ``cross_attention.project``.
        padding_mask: (B, k) bool, True on padding and on tokens that ``cross_attention`` added, or None.
        beam: hypotheses of each document.
        cross_attention: how they read them.
        uses_cuda_graph: steps are captured and replayed (:class:`~.cuda_graph.GraphedStep`). What a step does on the
            device then depends on nothing that the host counts: it reads all positions, those masked for all included.
        projections: for each layer the weights (3 C, C) and biases of query, key and value of its self-attention
            beside each other, where one product is to compute them; or None.
        added_scores: (B, k) added to the logits of the attention to the documents, or None.
    """

    def __init__(
        self,
        documents: list[tuple[Tensor, Tensor]],
        padding_mask: Tensor | None,
        beam: int,
        cross_attention: CrossAttention,
        uses_cuda_graph: bool = False,
        projections: list[tuple[Tensor, Tensor | None]] | None = None,
        added_scores: Tensor | None = None,
    ):
        self.documents = documents
        self.beam = beam
        self.cross_attention = cross_attention
        self.uses_cuda_graph = uses_cuda_graph
        self.projections = projections
        values = documents[0][1]
        self.document_mask = None
        added = None if added_scores is None else added_scores.to(values.dtype)
        if padding_mask is not None:
            zeros = torch.zeros(padding_mask.shape, dtype=values.dtype, device=values.device)
            added = (zeros if added is None else added).masked_fill(padding_mask, -torch.inf)
        if added is not None:
            self.document_mask = added[:, None, None]
        #: How many positions are written, those of the step that is going on included.
        self.num_written = 0
        #: (beam,) int64, the positions that the step that is going on writes, or the next one.
        self.write_positions = torch.arange(beam, device=values.device)
        #: Counts how often the caches moved to other addresses, or changed their shapes.
        self.layout = 0
        batch, heads, _, dim = values.shape
        self.keys = [values.new_empty(batch, heads, 0, dim) for _ in documents]
        self.values = [values.new_empty(batch, heads, 0, dim) for _ in documents]
        #: (B, beam, positions) added to the scores: 0 on a hypothesis's own past, -inf elsewhere.
        self.attn_mask = values.new_empty(batch, beam, 0)

    @property
    def rows(self) -> int:
        """Return the number of hypotheses of all documents."""
        return self.attn_mask.size(0) * self.beam

    def reserve_step(self) -> None:
        """Reserve one position for each hypothesis; the host calls it before a step."""
        self.num_written += self.beam
        if self.num_written > self.attn_mask.size(2):
            self._grow((GRAPH_GROWTH if self.uses_cuda_graph else GROWTH) * self.beam)

    def begin_step(self, padding: Tensor) -> None:
        """Unmask each hypothesis's own new position.

        Args:
            padding: (R,) bool, True on rows whose token is padding: those stay masked.
        """
        own = self.attn_mask.new_full((self.beam, self.beam), -torch.inf).fill_diagonal_(0)
        own = own.expand(self.attn_mask.size(0), -1, -1).masked_fill(padding.view(-1, 1, self.beam), -torch.inf)
        self.attn_mask.index_copy_(2, self.write_positions, own)

    def end_step(self) -> None:
        """Go on to the next positions."""
        self.write_positions += self.beam

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put (R, H*D) keys and values of the newest tokens into their positions; return all of the layer's.

        Returns:
            (B, H, positions, D) keys, values.
        """
        batch, heads, _, dim = self.keys[layer].shape
        for cache, new in ((self.keys, keys), (self.values, values)):
            cache[layer].index_copy_(2, self.write_positions, new.view(batch, self.beam, heads, dim).transpose(1, 2))
        return self.keys[layer][:, :, : self.read], self.values[layer][:, :, : self.read]

    @property
    def read(self) -> int:
        """Return how many positions a step reads."""
        return self.attn_mask.size(2) if self.uses_cuda_graph else self.num_written

    def past(self) -> Tensor:
        """Return (B, 1, beam, positions), to be added to the scores of the hypotheses' own keys."""
        return self.attn_mask[:, None, :, : self.read]

    def reorder(self, order: Tensor) -> None:
        """Select hypotheses: ``order`` (R',) holds indices into the rows."""
        kept, beam = regroup(order, self.attn_mask.size(0), self.beam)
        if kept is not None:
            self._select(kept)
        attn_mask = self.attn_mask.flatten(0, 1).index_select(0, order)
        attn_mask = attn_mask.view(-1, beam, attn_mask.size(1))
        if attn_mask.shape == self.attn_mask.shape:
            self.attn_mask.copy_(attn_mask)
            return
        if beam != self.beam:
            self.write_positions = torch.arange(self.num_written, self.num_written + beam, device=order.device)
        self.attn_mask = attn_mask
        self.beam = beam
        self.layout += 1

    def _select(self, kept: Tensor) -> None:
        """Keep only some documents, a layer after the other, so that little is there twice at any time."""
        self.layout += 1
        for layer, (keys, values) in enumerate(self.documents):
            self.documents[layer] = keys.index_select(0, kept), values.index_select(0, kept)
        for cache in (self.keys, self.values):
            for layer, old in enumerate(cache):
                cache[layer] = old.index_select(0, kept)
        if self.document_mask is not None:
            self.document_mask = self.document_mask.index_select(0, kept)

    def _grow(self, positions: int) -> None:
        self.layout += 1
        for cache in (self.keys, self.values):
            for layer, old in enumerate(cache):
                cache[layer] = torch.cat([old, old.new_zeros(*old.shape[:2], positions, old.size(3))], dim=2)
        masked = self.attn_mask.new_full((*self.attn_mask.shape[:2], positions), -torch.inf)
        self.attn_mask = torch.cat([self.attn_mask, masked], dim=2)
