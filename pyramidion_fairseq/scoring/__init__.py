"""ROUGE with confidence intervals and further measures of summaries; does not import fairseq.

``fairseq_scorer.py`` registers ``--scoring rouge``.
"""

from importlib import import_module
from typing import Any

#: {module: public names imported from it on first use}: most need numpy, pyramidion-summaries does not.
_LAZY_NAMES = {
    "fairseq_scorer": ("RougeScorer",),
    "lead": ("lead_baseline",),
    "measures": ("MEASURES", "MeasureScores", "compare_measures", "measure_scores"),
    "rouge": (
        *("BACKENDS", "METRICS", "STATISTICS", "RougeScores", "RougeSettings"),
        *("compare", "document_scores", "rouge_scores", "summarize"),
    ),
    "sentences": ("split_sentences",),
}

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
    """Import a public name on first use."""
    module = next((module for module, names in _LAZY_NAMES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{module}", __name__), name)
