"""ROUGE with confidence intervals, and what surrounds it; ``fairseq_scorer.py`` registers ``--scoring rouge``."""

from .fairseq_scorer import RougeScorer
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
