"""ROUGE with confidence intervals, and what surrounds it; ``fairseq_scorer.py`` registers ``--scoring rouge``."""

from .fairseq_scorer import RougeScorer
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
