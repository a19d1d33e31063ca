"""ROUGE with confidence intervals, and what surrounds it, without fairseq; ``fairseq_scorer.py`` registers
``--scoring rouge``."""

from typing import Any

from .lead import lead_baseline
from .measures import MEASURES, MeasureScores, compare_measures, measure_scores
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
    "MEASURES",
    "METRICS",
    "STATISTICS",
    "MeasureScores",
    "RougeScorer",
    "RougeScores",
    "RougeSettings",
    "compare",
    "compare_measures",
    "document_scores",
    "lead_baseline",
    "measure_scores",
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
