"""Configuration of pooled BART models for transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BartConfig


class PyramidionBartConfig(BartConfig):
    """BART's configuration with the options of the encoder.

    The encoder is configured by ``pyramidion``, which has all options of pyramidion_fairseq (docs/options.md). The
    decoder is configured by BART's own fields; ``max_position_embeddings`` is the maximum length of a summary.
    """

    model_type = "pyramidion_bart"

    pyramidion: dict[str, Any] | None = None


if not hasattr(BartConfig(), "dtype"):  # before transformers 4.56, it is called torch_dtype

    def _set_dtype(self: Any, dtype: str | torch.dtype | None) -> None:
        self.torch_dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype

    PyramidionBartConfig.dtype = property(lambda self: self.torch_dtype, _set_dtype)

PyramidionBartConfig.register_for_auto_class()  # so that its file is saved with it
