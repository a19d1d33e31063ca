"""Explanations of summaries: which words of the document the model kept, and which ones each summary word used."""

from ...text import DocumentWords, Section
from .types import Explanation, Length, ModelFacts, RankedSentence, Stage, SummaryWords

__all__ = [
    "DocumentWords",
    "Explanation",
    "Length",
    "ModelFacts",
    "RankedSentence",
    "Section",
    "Stage",
    "SummaryWords",
]
