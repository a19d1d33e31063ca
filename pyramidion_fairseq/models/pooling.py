"""Poolings of the encoder, each with a scorer and a pooler."""

from __future__ import annotations

from argparse import Namespace
from typing import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import PyramidionError
from ..functional import Pooled, keep_all
from ..poolers import POOLERS, Pooler
from ..schedule import PoolingSchedule
from ..scorers import SCORERS, TokenScorer


class RepresentationPooling(nn.Module):
    """Scores representations and keeps the k best (paper, section 3.1).

    Args:
        scorer: scorer of the tokens; None for poolers that do not use scores.
        pooler: pooler that selects tokens.
        k: number of tokens to keep.

    Raises:
        PyramidionError: the pooler needs positive scores, and the scorer may return negative ones.
    """

    #: Observer, called after every pooling with the detached scores (B, T) or None, the padding mask and the result.
    #: Set by ``PoolingMeters`` (tasks/training_meters.py).
    on_pooled: Callable[[Tensor | None, Tensor | None, Pooled], None] | None = None

    def __init__(self, scorer: TokenScorer | None, pooler: Pooler, k: int):
        super().__init__()
        may_be_negative = scorer is not None and not scorer.bounded and scorer.activation == "none"
        if pooler.needs_positive_scores and may_be_negative:
            name = POOLERS.name_of(type(pooler))
            raise PyramidionError(
                f"--pooler {name} takes scores as weights of a sample: it needs --scorer-activation sigmoid"
            )
        self.scorer, self.pooler, self.k = scorer, pooler, k

    @classmethod
    def from_config(cls, cfg: Namespace, k: int) -> RepresentationPooling:
        """Build from complete options (:func:`~pyramidion_fairseq.config.complete`), to keep ``k`` tokens."""
        pooler = POOLERS.build(cfg.pooler, cfg)
        return cls(SCORERS.build(cfg.scorer, cfg) if pooler.uses_scores else None, pooler, k)

    @property
    def needs_attention(self) -> bool:
        """Whether the scorer reads the attention of the preceding layer."""
        return self.scorer is not None and self.scorer.needs_attention

    def forward(self, x: Tensor, padding_mask: Tensor | None, attention: Tensor | None = None) -> Pooled:
        """Pool a batch.

        Args:
            x: (B, T, C) representations.
            padding_mask: (B, T) bool, True on padding; None if there is no padding.
            attention: (B, T) column sums of the preceding layer's attention; required if :attr:`needs_attention`.

        Returns:
            :class:`~pyramidion_fairseq.functional.Pooled` with min(T, k) slots.

        Raises:
            ValueError: the pooler returned a wrong number of slots or a wrong width.
        """
        scores = self.score(x, padding_mask, attention)
        x, scores = self.keep_scorer_in_graph(x, scores, x.size(1))
        selects = x.size(1) > self.k
        pooled = self.pooler(x, scores, padding_mask, self.k) if selects else keep_all(x, scores, padding_mask)
        expected = (x.size(0), min(x.size(1), self.k), x.size(2))
        if pooled.embeddings.shape != expected:
            got = tuple(pooled.embeddings.shape)
            raise ValueError(f"{type(self.pooler).__name__} must return embeddings of shape {expected}, got {got}")
        self.observe(scores, padding_mask, pooled)
        return pooled

    def keep_scorer_in_graph(self, x: Tensor, scores: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Keep the scorer's parameters in the graph even if its scores do not affect the output.

        Data-parallel training waits for the gradient of each parameter. Returns representations and scores.

        Args:
            x: (B, W, C), all or some tokens of documents of ``length`` tokens.
            scores: (B, W).
            length: padded length of the documents.
        """
        learns = (length > self.k and self.pooler.differentiable_in_scores) or self.pooler.adds_scores_to_attention
        if scores.requires_grad and not learns:
            x = x + (0.0 * scores.sum()).to(x.dtype)  # multiply before the cast: float16 would overflow
            scores = scores.detach()
        return x, scores

    def pool_scores(self, scores: Tensor, padding_mask: Tensor | None) -> Pooled:
        """Pool scores only, with a pooler that does not read representations.

        Args:
            scores: (B, T) scores of whole documents.
            padding_mask: (B, T) bool or None.

        Returns:
            :class:`~pyramidion_fairseq.functional.Pooled` with placeholder embeddings (B, k, 1).
        """
        placeholder = torch.zeros_like(scores.detach()).unsqueeze(2)  # (B, T, 1)
        if scores.size(1) <= self.k:
            return keep_all(placeholder, scores, padding_mask)
        pooled: Pooled = self.pooler(placeholder, scores, padding_mask, self.k)
        return pooled

    def observe(self, scores: Tensor, padding_mask: Tensor | None, pooled: Pooled) -> None:
        """Call the observer, if any, with (B, T) scores, the (B, T) mask or None, and the result."""
        if self.on_pooled is not None:
            self.on_pooled(None if self.scorer is None else scores.detach(), padding_mask, pooled)

    def lengths_after(self, document_lengths: Sequence[int]) -> list[int]:
        """Return the number of vectors that each document of a batch, padded to the longest, is pooled to.

        Args:
            document_lengths: number of tokens of each document, or of vectors after an earlier pooling.
        """
        if max(document_lengths) <= self.k:
            return list(document_lengths)
        return [self.pooler.output_length(length, self.k) for length in document_lengths]

    def score(self, x: Tensor, padding_mask: Tensor | None, attention: Tensor | None = None) -> Tensor:
        """Return (B, T) scores, at least float32, or zeros without a scorer; same arguments as :meth:`forward`."""
        if self.scorer is None:
            return torch.zeros(x.shape[:2], dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        # Without parameters to train and without a gradient of the scores, skip the gradient of the attention.
        learns = self.pooler.differentiable_in_scores or self.pooler.adds_scores_to_attention
        if attention is not None and not learns and not list(self.scorer.parameters()):
            attention = attention.detach()
        return self.scorer(x, padding_mask, attention)

    def extra_repr(self) -> str:
        return f"k={self.k}"


def build_poolings(cfg: Namespace) -> nn.ModuleDict:
    """Build the poolings of the schedule, keyed by the layer after which each pools, counted from 1.

    Args:
        cfg: complete options (:func:`~pyramidion_fairseq.config.complete`). Layers without a pooling have no scorer.
    """
    steps = PoolingSchedule.parse(cfg.pooling_schedule).steps
    return nn.ModuleDict({str(layer): RepresentationPooling.from_config(cfg, k) for layer, k in steps})
