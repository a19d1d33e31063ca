"""fairseq tasks."""

from .long_document_summarization import LongDocumentSummarizationTask

__all__ = ["LongDocumentSummarizationTask"]
