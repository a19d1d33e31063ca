"""BART checkpoints, of fairseq or of Hugging Face, made long, sparse and pooled."""

from .adapt import Change, adapt_state

__all__ = ["Change", "adapt_state"]
