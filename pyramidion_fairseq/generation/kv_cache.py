"""What the decoder remembers between two steps of generation: keys and values of summaries and documents."""

from __future__ import annotations

import torch
from torch import Tensor

from .cross_attention import Reading
from .hypotheses import regroup

#: Positions by which the caches grow: seldom enough that copying them does not count, little enough to fit.
GROWTH = 64
#: The same where steps are recorded: each growth costs a recording.
RECORDED_GROWTH = 256


class DecodingState:
    """Keys and values of every decoder layer, for B documents with the same number of hypotheses (the beam) each.

    Documents: one pair a layer, read by all hypotheses of a document, as :class:`~.cross_attention.Reading` laid it
    out.

    Summaries: one (B, H, slots, D) pair a layer. Every step writes one slot for each hypothesis and leaves it where
    it is. ``visible`` tells which slots are a hypothesis's own past. When the search continues one hypothesis twice
    and drops another, only that mask is reordered; the keys and values of a document's hypotheses are read together,
    each once, whoever they belong to.

    Args:
        documents: a (keys, values) pair for each layer, from ``reading.project``.
        padding_mask: (B, k) bool, True on padding and on tokens that the reading added, or None.
        beam: hypotheses of each document.
        reading: how they read it.
        recorded: steps are recorded and replayed (:class:`~.cuda_graph.RecordedStep`). What a step does on the device
            then depends on nothing that the host counts: it reads all slots, those that nobody sees included.
    """

    def __init__(
        self,
        documents: list[tuple[Tensor, Tensor]],
        padding_mask: Tensor | None,
        beam: int,
        reading: Reading,
        recorded: bool = False,
    ):
        self.documents, self.beam, self.reading, self.recorded = documents, beam, reading, recorded
        values = documents[0][1]
        self.document_mask = None
        if padding_mask is not None:
            hidden = torch.zeros(padding_mask.shape, dtype=values.dtype, device=values.device)
            self.document_mask = hidden.masked_fill(padding_mask, -torch.inf)[:, None, None]
        #: How many slots are written, those of the step that is going on included.
        self.used = 0
        #: (beam,) int64, the slots that the step that is going on writes, or the next one.
        self.slots = torch.arange(beam, device=values.device)
        #: Counts how often the caches moved to other places in memory, or changed their shapes.
        self.layout = 0
        batch, heads, _, dim = values.shape
        self.keys, self.values = ([values.new_empty(batch, heads, 0, dim) for _ in documents] for _ in range(2))
        #: (B, beam, slots) added to the scores: 0 on a hypothesis's own past, -inf elsewhere.
        self.visible = values.new_empty(batch, beam, 0)

    @property
    def rows(self) -> int:
        """Hypotheses of all documents."""
        return self.visible.size(0) * self.beam

    def make_room(self) -> None:
        """Before a step, on the host: one slot for each hypothesis."""
        self.used += self.beam
        if self.used > self.visible.size(2):
            self._grow((RECORDED_GROWTH if self.recorded else GROWTH) * self.beam)

    def begin_step(self, hidden: Tensor) -> None:
        """Let each hypothesis see its own new slot.

        Args:
            hidden: (R,) bool, True on rows whose token is padding: nobody will see those.
        """
        own = self.visible.new_full((self.beam, self.beam), -torch.inf).fill_diagonal_(0)
        own = own.expand(self.visible.size(0), -1, -1).masked_fill(hidden.view(-1, 1, self.beam), -torch.inf)
        self.visible.index_copy_(2, self.slots, own)

    def end_step(self) -> None:
        """Go on to the next slots."""
        self.slots += self.beam

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put (R, H*D) keys and values of the newest tokens into their slots; return all of the layer's, as written.

        Returns:
            (B, H, slots, D) keys, values.
        """
        batch, heads, _, dim = self.keys[layer].shape
        for cache, new in ((self.keys, keys), (self.values, values)):
            cache[layer].index_copy_(2, self.slots, new.view(batch, self.beam, heads, dim).transpose(1, 2))
        return self.keys[layer][:, :, : self.read], self.values[layer][:, :, : self.read]

    @property
    def read(self) -> int:
        """How many slots a step reads."""
        return self.visible.size(2) if self.recorded else self.used

    def past(self) -> Tensor:
        """(B, 1, beam, slots) to be added to the scores of the hypotheses' own keys."""
        return self.visible[:, None, :, : self.read]

    def reorder(self, order: Tensor) -> None:
        """Select hypotheses: ``order`` (R',) holds indices into the rows."""
        kept, beam = regroup(order, self.visible.size(0), self.beam)
        if kept is not None:
            self._select(kept)
        seen = self.visible.flatten(0, 1).index_select(0, order)
        seen = seen.view(-1, beam, seen.size(1))
        if seen.shape == self.visible.shape:
            self.visible.copy_(seen)
            return
        if beam != self.beam:
            self.slots = torch.arange(self.used, self.used + beam, device=seen.device)
        self.visible, self.beam, self.layout = seen, beam, self.layout + 1

    def _select(self, kept: Tensor) -> None:
        """Keep only some documents, a layer after the other, so that little is there twice at any time."""
        self.layout += 1
        for layer, (keys, values) in enumerate(self.documents):
            self.documents[layer] = keys.index_select(0, kept), values.index_select(0, kept)
        for cache in (self.keys, self.values):
            for layer, slots in enumerate(cache):
                cache[layer] = slots.index_select(0, kept)
        if self.document_mask is not None:
            self.document_mask = self.document_mask.index_select(0, kept)

    def _grow(self, slots: int) -> None:
        self.layout += 1
        for cache in (self.keys, self.values):
            for layer, old in enumerate(cache):
                cache[layer] = torch.cat([old, old.new_zeros(*old.shape[:2], slots, old.size(3))], dim=2)
        unseen = self.visible.new_full((*self.visible.shape[:2], slots), -torch.inf)
        self.visible = torch.cat([self.visible, unseen], dim=2)
