"""State of generation between steps: keys and values of summaries and documents."""

from __future__ import annotations

import torch
from torch import Tensor

from .cross_attention import CrossAttention
from .hypotheses import regroup

#: Number of positions by which the caches grow: a compromise between copying them often and wasting memory.
GROWTH = 64
#: Growth if steps are CUDA graphs, for which each growth costs a capture.
GRAPH_GROWTH = 256


class DecodingState:
    """Keys and values of every decoder layer, for B documents with the same number of hypotheses (the beam) each.

    Documents: one pair per layer, in the layout of :class:`~.cross_attention.CrossAttention`, shared by all hypotheses
    of a document.

    Summaries: one (B, H, positions, D) pair per layer. Every step writes one position of the cache for each
    hypothesis, and positions never move. ``attn_mask`` says which positions belong to which hypothesis. If the search
    repeats one hypothesis and drops another, only this mask is reordered. All hypotheses of a document read the same
    keys and values.

    Args:
        document_keys_values: one (keys, values) pair per layer, from ``cross_attention.project``.
        padding_mask: (B, k) bool, True on padding and on tokens added by ``cross_attention``, or None.
        beam: number of hypotheses per document.
        cross_attention: implementation of the attention to the documents.
        uses_cuda_graph: whether steps are captured and replayed (:class:`~.cuda_graph.GraphedStep`). The operations of
            a step then must not depend on counters of the host, so a step reads all positions, even those masked for
            every hypothesis.
        projections: for each layer the concatenated weights (3 C, C) and biases of query, key and value of its
            self-attention, if one product is to compute them; or None.
        added_scores: (B, k) scores to add to the logits of the attention to the documents, or None.
    """

    def __init__(
        self,
        document_keys_values: list[tuple[Tensor, Tensor]],
        padding_mask: Tensor | None,
        beam: int,
        cross_attention: CrossAttention,
        uses_cuda_graph: bool = False,
        projections: list[tuple[Tensor, Tensor | None]] | None = None,
        added_scores: Tensor | None = None,
    ):
        self.document_keys_values = document_keys_values
        self.beam = beam
        self.cross_attention = cross_attention
        self.uses_cuda_graph = uses_cuda_graph
        self.projections = projections
        values = document_keys_values[0][1]
        self.document_mask = None
        added = None if added_scores is None else added_scores.to(values.dtype)
        if padding_mask is not None:
            zeros = torch.zeros(padding_mask.shape, dtype=values.dtype, device=values.device)
            added = (zeros if added is None else added).masked_fill(padding_mask, -torch.inf)
        if added is not None:
            self.document_mask = added[:, None, None]
        #: Number of written positions, including those of the current step.
        self.num_written = 0
        #: (beam,) int64, the positions written by the current step, or by the next one.
        self.write_positions = torch.arange(beam, device=values.device)
        #: Number of times that the caches moved to other addresses or changed their shapes.
        self.layout_version = 0
        batch, heads, _, dim = values.shape
        self.keys = [values.new_empty(batch, heads, 0, dim) for _ in document_keys_values]
        self.values = [values.new_empty(batch, heads, 0, dim) for _ in document_keys_values]
        #: (B, beam, positions) added to the scores: 0 on a hypothesis's own past, -inf elsewhere.
        self.attn_mask = values.new_empty(batch, beam, 0)

    @property
    def rows(self) -> int:
        """Return the number of hypotheses of all documents."""
        return self.attn_mask.size(0) * self.beam

    def reserve_step(self) -> None:
        """Reserve one position for each hypothesis. Called by the host before each step."""
        self.num_written += self.beam
        if self.num_written > self.attn_mask.size(2):
            self._grow((GRAPH_GROWTH if self.uses_cuda_graph else GROWTH) * self.beam)

    def begin_step(self, padding: Tensor) -> None:
        """Unmask the new position of each hypothesis.

        Args:
            padding: (R,) bool, True on rows whose token is padding, which stay masked.
        """
        own = self.attn_mask.new_full((self.beam, self.beam), -torch.inf).fill_diagonal_(0)
        own = own.expand(self.attn_mask.size(0), -1, -1).masked_fill(padding.view(-1, 1, self.beam), -torch.inf)
        self.attn_mask.index_copy_(2, self.write_positions, own)

    def end_step(self) -> None:
        """Advance to the positions of the next step."""
        self.write_positions += self.beam

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (R, H*D) keys and values of the newest tokens to their positions, and return all of the layer's.

        Returns:
            (B, H, positions, D) keys, values.
        """
        batch, heads, _, dim = self.keys[layer].shape
        for cache, new in ((self.keys, keys), (self.values, values)):
            cache[layer].index_copy_(2, self.write_positions, new.view(batch, self.beam, heads, dim).transpose(1, 2))
        return self.keys[layer][:, :, : self.num_read], self.values[layer][:, :, : self.num_read]

    @property
    def num_read(self) -> int:
        """Return the number of positions that a step reads."""
        return self.attn_mask.size(2) if self.uses_cuda_graph else self.num_written

    def self_attention_mask(self) -> Tensor:
        """Return the (B, 1, beam, positions) mask to add to the scores of the hypotheses' own keys."""
        return self.attn_mask[:, None, :, : self.num_read]

    def reorder(self, order: Tensor) -> None:
        """Select hypotheses by ``order`` (R',), indices into the rows.

        Keys and values of the summaries stay at their positions, because the mask alone says which positions are a
        hypothesis's past. Only the mask is reordered.
        """
        remaining, beam = regroup(order, self.attn_mask.size(0), self.beam)
        attn_mask = self.attn_mask.flatten(0, 1).index_select(0, order)  # (R', positions)
        attn_mask = attn_mask.view(-1, beam, attn_mask.size(1))
        if remaining is None and beam == self.beam:
            self.attn_mask.copy_(attn_mask)  # at the same address, so that a captured step stays valid
            return
        if remaining is not None:
            self._select(remaining)
        if beam != self.beam:
            self.write_positions = torch.arange(self.num_written, self.num_written + beam, device=order.device)
        self.attn_mask = attn_mask
        self.beam = beam
        self.layout_version += 1

    def _select(self, remaining: Tensor) -> None:
        """Select documents from all but the mask, layer by layer, so that at most one layer is in memory twice."""
        for layer, (keys, values) in enumerate(self.document_keys_values):
            self.document_keys_values[layer] = keys.index_select(0, remaining), values.index_select(0, remaining)
        for cache in (self.keys, self.values):
            for layer, old in enumerate(cache):
                cache[layer] = old.index_select(0, remaining)
        if self.document_mask is not None:
            self.document_mask = self.document_mask.index_select(0, remaining)

    def _grow(self, positions: int) -> None:
        self.layout_version += 1
        for cache in (self.keys, self.values):
            for layer, old in enumerate(cache):
                cache[layer] = torch.cat([old, old.new_zeros(*old.shape[:2], positions, old.size(3))], dim=2)
        masked = self.attn_mask.new_full((*self.attn_mask.shape[:2], positions), -torch.inf)
        self.attn_mask = torch.cat([self.attn_mask, masked], dim=2)
