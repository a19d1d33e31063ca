"""Keys of the encoder's output: fairseq's dict of lists of tensors, and what this package adds to it."""

from __future__ import annotations

#: (B, T_i) int64 per pooling: the slot of each of its input tokens.
POOLING_SLOTS = "pooling_slots"
#: (B, T_i) per pooling: the weight of each of its input tokens in its slot.
POOLING_WEIGHTS = "pooling_weights"
#: The tokens that a pointer can copy, a ``CopySource``; empty without a pointer.
COPY_SOURCE = "copy_source"
#: (B, k) what the decoder adds to the logits of its attention to the pooled vectors; empty where it adds nothing.
ADDED_SCORES = "added_scores"
#: (R,) int64 the document that each row of the decoder reads, once hypotheses share documents.
DOCUMENT_INDEX = "hypothesis_documents"
