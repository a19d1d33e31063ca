"""Base classes of poolers."""

from __future__ import annotations

from argparse import Namespace
from typing import Mapping

from torch import Tensor, nn

from ..functional import Pooled, window_size
from ..registry import Registry
from ..schedule import PoolingSchedule


class Pooler(nn.Module):
    """Reduces n scored representations to k.

    All poolers guarantee that padding is never selected and changes nothing, that a document with at most k tokens
    passes unchanged, and that slots keep the order of the document unless the user asks otherwise.
    """

    #: Whether the pooler reads scores. If not, the encoder builds no scorer.
    uses_scores = True
    #: Whether the pooled representations are differentiable with respect to the scores. If not, scorers get zero
    #: gradients.
    differentiable_in_scores = True
    #: Whether slot j is exactly the sum of weights * tokens over the tokens with slot j. If not, the record only holds
    #: the slot in which each token has its largest share, and this share.
    exact_record = True
    #: Whether the weights of each slot sum to one.
    convex = True
    #: Whether slots and weights depend on the representations themselves, not only on the scores.
    reads_representations = False
    #: Whether scores are sampling weights, for which negative values make no sense.
    needs_positive_scores = False
    #: Whether the decoder adds the scores of the slots to its attention logits, through which scorers are trained.
    adds_scores_to_attention = False
    #: Whether the encoder upsamples its output to the length before the first pooling.
    upsamples = False

    @classmethod
    def from_config(cls, cfg: Namespace) -> Pooler:
        """Build from complete options (:func:`~pyramidion_fairseq.config.complete`)."""
        raise NotImplementedError(f"{cls.__name__} has no from_config")

    def forward(self, x: Tensor, scores: Tensor, padding_mask: Tensor | None, k: int) -> Pooled:
        """Pool a batch.

        Args:
            x: (B, n, C) representations.
            scores: (B, n) float32 or float64.
            padding_mask: (B, n) bool, True on padding; None if there is no padding.
            k: number of representations to keep per document.

        Returns:
            :class:`~pyramidion_fairseq.functional.Pooled` with min(n, k) slots.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def output_length(self, length: int, k: int) -> int:
        """Return the number of vectors that a document of ``length`` tokens is pooled to, at most min(length, k)."""
        return min(length, k)


class WindowPooler(Pooler):
    """Base class of poolers of consecutive tokens; see :func:`~pyramidion_fairseq.functional.mean_windows`.

    Args:
        windows: number of tokens per window, keyed by the k of the pooling. For a missing k, windows are as small as
            possible such that at most k cover the document.
    """

    uses_scores = False
    differentiable_in_scores = False

    def __init__(self, windows: Mapping[int, int] | None = None):
        super().__init__()
        self.windows = dict(windows or {})

    @staticmethod
    def windows_of(cfg: Namespace) -> dict[int, int]:
        """Return the windows of the schedule's poolings: ceil(n / k) for n tokens of a document of full length."""
        return PoolingSchedule.parse(cfg.pooling_schedule).windows(cfg.max_source_positions)

    @classmethod
    def from_config(cls, cfg: Namespace) -> WindowPooler:
        return cls(cls.windows_of(cfg))

    def output_length(self, length: int, k: int) -> int:
        return -(-length // window_size(length, k, self.windows.get(k, 1)))

    def extra_repr(self) -> str:
        return f"windows={self.windows}"


POOLERS: Registry[Pooler] = Registry("pooler", Pooler)
