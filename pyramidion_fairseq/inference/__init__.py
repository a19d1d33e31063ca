"""Summaries from trained models, in Python: loading a checkpoint, batching documents, generating and explaining."""
