"""Summarisation with trained models in Python: loading checkpoints, batching documents, generation, explanations."""
