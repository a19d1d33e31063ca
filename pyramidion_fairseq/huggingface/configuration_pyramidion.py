"""Configuration of pooled BART models for transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BartConfig


class PyramidionBartConfig(BartConfig):
    """BART's configuration, and the options of the encoder.

    ``pyramidion`` has every option of pyramidion_fairseq by its name there (docs/options.md). The encoder goes by
    these; the decoder by BART's own fields, whose ``max_position_embeddings`` is the length of summaries.
    """

    model_type = "pyramidion_bart"

    pyramidion: dict[str, Any] | None = None


if not hasattr(BartConfig(), "dtype"):  # transformers before 4.56, which knows it by another name only

    def _set_dtype(self: Any, dtype: str | torch.dtype | None) -> None:
        self.torch_dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype

    PyramidionBartConfig.dtype = property(lambda self: self.torch_dtype, _set_dtype)

PyramidionBartConfig.register_for_auto_class()  # so that its file is saved with it
