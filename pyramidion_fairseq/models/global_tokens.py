"""Learned tokens before each document in the encoder, for attentions that need them (LSG)."""

from __future__ import annotations

from argparse import Namespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.lsg import MAX_GLOBALS


class GlobalTokens(nn.Embedding):
    """First ``count`` rows of a learned embedding (512, C), which has the size of published LSG checkpoints.

    Args:
        dim: C.
        count: G, number of global tokens per document, at most 512.
        std: standard deviation of the initial values, equal to that of scaled token embeddings.
        hide_first: whether to mask the document's first token until the first pooling. A published option for
            documents whose first symbol is represented by a global token.
        in_output: whether global tokens are part of the encoder's output.
        replace_first: if not, whether the first global token replaces the first vector.
    """

    def __init__(self, dim: int, count: int, std: float, hide_first: bool, in_output: bool, replace_first: bool):
        super().__init__(MAX_GLOBALS, dim)
        nn.init.normal_(self.weight, std=std)
        self.count, self.hide_first, self.in_output, self.replace_first = count, hide_first, in_output, replace_first

    @classmethod
    def from_config(cls, cfg: Namespace, dim: int, count: int, embed_scale: float) -> GlobalTokens:
        """Build from complete options (:func:`~pyramidion_fairseq.config.complete`).

        Args:
            cfg: complete options.
            dim, count: C and G.
            embed_scale: factor by which token embeddings are scaled.
        """
        return cls(
            dim,
            count,
            std=embed_scale * dim**-0.5,
            hide_first=cfg.lsg_mask_first_token,
            in_output=not cfg.lsg_no_global_to_decoder,
            replace_first=not cfg.lsg_no_pool_with_global,
        )

    def forward(self, batch: int) -> Tensor:  # type: ignore[override]  # a number of documents, not ids
        """Return (batch, G, C)."""
        return super().forward(torch.arange(self.count, device=self.weight.device).expand(batch, -1))

    def key_padding_mask(self, x: Tensor, padding_mask: Tensor | None, has_first_token: bool) -> Tensor | None:
        """Return the mask of the keys that no query attends to: (B, G + T) bool, or None.

        Args:
            x: (B, G + T, C) global tokens and documents.
            padding_mask: (B, T) bool, True on the document's padding; None if there is none.
            has_first_token: whether the document's first token is here. After a pooling, the first vector represents
                other tokens as well.
        """
        if padding_mask is None and not self.hide_first:
            return None
        if padding_mask is None:
            key_padding_mask = x.new_zeros(x.shape[:2], dtype=torch.bool)
        else:
            key_padding_mask = F.pad(padding_mask, (self.count, 0))
        if self.hide_first and has_first_token:
            key_padding_mask[:, self.count] = True  # a copy, never the caller's mask
        return key_padding_mask

    def finish(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's output given its last layer's: (B, G + T, C), (B, T) -> (B, T', C), (B, T')."""
        if self.in_output:
            return x, F.pad(mask, (self.count, 0))
        if self.replace_first:
            return torch.cat([x[:, :1], x[:, self.count + 1 :]], dim=1), mask
        return x[:, self.count :], mask

    def finish_scores(self, scores: Tensor) -> Tensor:
        """Return the scores of the vectors of :meth:`finish`, 0 for global tokens: (B, T) -> (B, T')."""
        if self.in_output:
            return F.pad(scores, (self.count, 0))
        if self.replace_first:
            return F.pad(scores[:, 1:], (1, 0))
        return scores
