"""BART checkpoints, of fairseq or of Hugging Face, made long, sparse and pooled."""

from .adapt import adapt_state

__all__ = ["adapt_state"]
