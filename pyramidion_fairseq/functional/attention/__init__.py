"""Attention of every pattern, on (B, T, C) tensors with padding masks."""
