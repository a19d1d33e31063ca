"""A document's first token, kept out of the poolings: classifiers read it."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


class FirstToken:
    """Stands in for :class:`~pyramidion_fairseq.models.global_tokens.GlobalTokens` for ``<s>``.

    The first token is a token of the document as before: attention, embedding and position are its own. It is left
    out of every pooling, and is the first vector of the output. Where it counts, (B, T) are the tokens after it.
    """

    #: How many tokens are kept.
    used = 1

    def key_padding_mask(self, x: Tensor, padding_mask: Tensor | None, pooled: bool) -> Tensor | None:
        """Return the mask of the keys that no query attends to: (B, T) bool or None -> (B, 1 + T) bool or None."""
        return None if padding_mask is None else F.pad(padding_mask, (1, 0))

    def finish(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's output from its last layer's: (B, 1 + T, C), (B, T) -> (B, 1 + T, C), (B, 1 + T)."""
        return x, F.pad(mask, (1, 0))

    def finish_scores(self, scores: Tensor) -> Tensor:
        """Return scores of the vectors of :meth:`finish`, 0 for the first: (B, T) -> (B, 1 + T)."""
        return F.pad(scores, (1, 0))

    @staticmethod
    def mask_of_rest(padding_mask: Tensor | None) -> Tensor | None:
        """Return the padding mask of the tokens after the first: (B, 1 + T) bool or None -> (B, T) bool or None.

        Of a document of one token, the padding after it counts as a token: no document is empty.
        """
        if padding_mask is None:
            return None
        rest = padding_mask[:, 1:].clone()
        rest[:, 0] = False
        return rest

    @staticmethod
    def lengths_with(document_lengths: Any) -> list[int] | None:
        """Return the lengths of documents with their first token from those without it."""
        return None if document_lengths is None else [length + 1 for length in document_lengths]
