"""Keys of the encoder's output: fairseq's dict of lists of tensors, extended by this package."""

from __future__ import annotations

#: (B, T_i) int64 per pooling: the slot of each input token.
POOLING_SLOTS = "pooling_slots"
#: (B, T_i) per pooling: the weight of each input token in its slot.
POOLING_WEIGHTS = "pooling_weights"
#: Tokens that a pointer can copy, a ``CopySource``; empty without a pointer.
COPY_SOURCE = "copy_source"
#: (B, k) scores that the decoder adds to its attention logits; empty if there are none.
ADDED_SCORES = "added_scores"
#: (R,) int64, the document read by each row of the decoder, once hypotheses share documents.
DOCUMENT_INDEX = "hypothesis_documents"
