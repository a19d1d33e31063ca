"""Attention functions of every pattern, on batch-first tensors with padding masks."""
