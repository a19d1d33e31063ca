"""Conversion from and to other code: published checkpoints, pretrained models, and directories for transformers."""
