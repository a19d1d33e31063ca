"""Losses, registered with fairseq."""

from .chunked_cross_entropy import ChunkedCrossEntropyCriterion

__all__ = ["ChunkedCrossEntropyCriterion"]
