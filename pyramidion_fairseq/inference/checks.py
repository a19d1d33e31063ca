"""Warnings about documents that a model cannot read well, and about empty summaries."""

from __future__ import annotations

import logging
from typing import Sequence

from ..text import Document

logger = logging.getLogger(__name__)

#: Share of unknown tokens of a document above which a warning names it. SumPubMed's articles have at most 0.0025.
MOST_UNKNOWN = 0.01


class DocumentChecks:
    """Warn of the first document of a call that has many unknown tokens, and of the first with an empty summary.

    Args:
        unknown: id of ``<unk>``.
    """

    def __init__(self, unknown: int):
        self.unknown = unknown
        self.unknown_told = self.empty_told = False

    def check(self, document: Document, tokens: Sequence[int], summary: str) -> None:
        """Check the next document, the ids of its tokens, and its summary."""
        if not tokens:
            return
        name = "a document" if document.article_id is None else f"document {document.article_id!s:.50}"
        share = list(tokens).count(self.unknown) / len(tokens)
        if share > MOST_UNKNOWN and not self.unknown_told:
            self.unknown_told = True
            logger.warning(
                f"{share:.0%} of the tokens of {name} are unknown to the model, which reads them as gaps: is it text "
                "of another language or script?"
            )
        if not summary.strip() and not self.empty_told:
            self.empty_told = True
            logger.warning(f"the summary of {name} is empty, but the document is not")
