"""Conversion of RoBERTa, CamemBERT and XLM-R checkpoints to long, sparse and pooled encoders."""

from .adapt import adapt_state

__all__ = ["adapt_state"]
