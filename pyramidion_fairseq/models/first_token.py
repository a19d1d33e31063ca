"""The first token of a document, which is left out of the poolings so that classifiers can read it."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


class FirstToken:
    """Drop-in replacement of :class:`~pyramidion_fairseq.models.global_tokens.GlobalTokens` for ``<s>``.

    The first token remains a token of the document, with its own attention, embedding and position. It is left out of
    every pooling, and is the first vector of the output. In the shapes of the methods, T is the number of tokens after
    it.
    """

    #: Number of tokens that are not pooled.
    count = 1

    def key_padding_mask(self, x: Tensor, padding_mask: Tensor | None, has_first_token: bool) -> Tensor | None:
        """Return the mask of the keys that no query attends to: (B, T) bool or None -> (B, 1 + T) bool or None."""
        return None if padding_mask is None else F.pad(padding_mask, (1, 0))

    def finish(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's output given its last layer's: (B, 1 + T, C), (B, T) -> (B, 1 + T, C), (B, 1 + T)."""
        return x, F.pad(mask, (1, 0))

    def finish_scores(self, scores: Tensor) -> Tensor:
        """Return the scores of the vectors of :meth:`finish`, 0 for the first: (B, T) -> (B, 1 + T)."""
        return F.pad(scores, (1, 0))

    @staticmethod
    def mask_of_rest(padding_mask: Tensor | None) -> Tensor | None:
        """Return the padding mask of the tokens after the first: (B, 1 + T) bool or None -> (B, T) bool or None.

        The position after the first token always counts as a token, so that no document is empty.
        """
        if padding_mask is None:
            return None
        rest = padding_mask[:, 1:].clone()
        rest[:, 0] = False
        return rest

    @staticmethod
    def lengths_with(document_lengths: Any) -> list[int] | None:
        """Return the lengths of documents including their first token, given those without it."""
        return None if document_lengths is None else [length + 1 for length in document_lengths]
