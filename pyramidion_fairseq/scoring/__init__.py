"""ROUGE with confidence intervals, and what surrounds it, without fairseq; ``fairseq_scorer.py`` registers
``--scoring rouge``."""

from typing import Any

from .lead import lead_baseline
from .rouge import (
    BACKENDS,
    METRICS,
    STATISTICS,
    RougeScores,
    RougeSettings,
    compare,
    document_scores,
    rouge_scores,
    summarize,
)
from .sentences import split_sentences

__all__ = [
    "BACKENDS",
    "METRICS",
    "STATISTICS",
    "RougeScorer",
    "RougeScores",
    "RougeSettings",
    "compare",
    "document_scores",
    "lead_baseline",
    "rouge_scores",
    "split_sentences",
    "summarize",
]


def __getattr__(name: str) -> Any:
    """Return ``RougeScorer``, which needs fairseq, when it is asked for."""
    if name != "RougeScorer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .fairseq_scorer import RougeScorer

    return RougeScorer
