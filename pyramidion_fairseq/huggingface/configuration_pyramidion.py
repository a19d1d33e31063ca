"""Configuration of pooled BART models for transformers."""

from __future__ import annotations

from transformers import BartConfig


class PyramidionBartConfig(BartConfig):
    """BART's configuration, and the options of the encoder.

    ``pyramidion`` has every option of pyramidion_fairseq by its name there (docs/options.md). The encoder goes by
    these; the decoder by BART's own fields, whose ``max_position_embeddings`` is the length of summaries.
    """

    model_type = "pyramidion_bart"

    pyramidion: dict | None = None
