"""Models of other code: published checkpoints, BART, and directories for transformers."""
