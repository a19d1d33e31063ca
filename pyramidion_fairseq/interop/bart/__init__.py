"""Conversion of BART checkpoints of fairseq or Hugging Face to long, sparse and pooled models."""

from .adapt import adapt_state

__all__ = ["adapt_state"]
