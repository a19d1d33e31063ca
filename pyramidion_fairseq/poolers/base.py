"""The contract of poolers."""

from __future__ import annotations

from argparse import Namespace
from typing import Mapping

from torch import Tensor, nn

from ..functional import Pooled, window_size
from ..registry import Registry
from ..schedule import PoolingSchedule


class Pooler(nn.Module):
    """Turns n scored representations into k.

    What must hold for every pooler: padding is never selected and changes nothing; a document with at most k tokens
    passes unchanged; slots keep the order of the document unless the user asks otherwise.
    """

    #: False: does not look at scores; the encoder then builds no scorer.
    uses_scores = True
    #: False: the representations do not depend on the scores continuously, and scorers get zero gradients.
    differentiable_in_scores = True
    #: True: slot j is the sum of weights * tokens over the tokens whose slot is j. False: the record only says in
    #: which slot each token's share is largest, and how large.
    exact_record = True
    #: False: a slot's weights do not sum to one.
    convex = True
    #: True: slots and weights depend on the representations themselves, not on the scores alone.
    reads_representations = False
    #: True: scores are weights of a sample, and negative ones mean nothing.
    needs_positive_scores = False
    #: True: the decoder's attention adds the slots' scores to its logits, and scorers learn by that.
    adds_scores_to_attention = False
    #: True: after its last layer the encoder goes back to the length before the first pooling.
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
            padding_mask: (B, n) bool, True on padding; None where there is none.
            k: representations to keep per document.

        Returns:
            :class:`~pyramidion_fairseq.functional.Pooled` with min(n, k) slots.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def output_length(self, length: int, k: int) -> int:
        """Return vectors that a document of ``length`` tokens is pooled to, at most min(length, k)."""
        return min(length, k)


class WindowPooler(Pooler):
    """Poolers of windows of consecutive tokens; windows as of :func:`~pyramidion_fairseq.functional.mean_windows`.

    Args:
        windows: tokens in a window, keyed by the k of the pooling. A k that is not there gets the narrowest windows
            of which the document fills at most k.
    """

    uses_scores = False
    differentiable_in_scores = False

    def __init__(self, windows: Mapping[int, int] | None = None):
        super().__init__()
        self.windows = dict(windows or {})

    @staticmethod
    def windows_of(cfg: Namespace) -> dict[int, int]:
        """Return windows of the schedule's poolings: ceil(n / k) for n tokens of a document of full length."""
        return PoolingSchedule.parse(cfg.pooling_schedule).windows(cfg.max_source_positions)

    @classmethod
    def from_config(cls, cfg: Namespace) -> WindowPooler:
        return cls(cls.windows_of(cfg))

    def output_length(self, length: int, k: int) -> int:
        return -(-length // window_size(length, k, self.windows.get(k, 1)))

    def extra_repr(self) -> str:
        return f"windows={self.windows}"


POOLERS: Registry[Pooler] = Registry("pooler", Pooler)
