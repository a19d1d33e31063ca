"""Configuration of pooled encoders for classification, for transformers."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class PyramidionRobertaConfig(PretrainedConfig):
    """Sizes of the encoder by BART's names, and its options.

    ``pyramidion`` has all options of pyramidion_fairseq's encoders.
    """

    model_type = "pyramidion_roberta"
    attribute_map = {"hidden_size": "d_model", "num_hidden_layers": "encoder_layers"}

    def __init__(self, pyramidion: dict[str, Any] | None = None, **kwargs: Any):
        self.pyramidion = pyramidion
        options = pyramidion or {}
        self.vocab_size = kwargs.pop("vocab_size", 0)
        self.d_model = kwargs.pop("d_model", options.get("encoder_embed_dim", 768))
        self.encoder_layers = kwargs.pop("encoder_layers", options.get("encoder_layers", 12))
        self.encoder_ffn_dim = kwargs.pop("encoder_ffn_dim", options.get("encoder_ffn_embed_dim", 3072))
        for name, value in (("dropout", 0.1), ("activation_dropout", 0.0), ("pooler_dropout", 0.0)):
            setattr(self, name, kwargs.pop(name, options.get(name, value)))
        self.activation_function = kwargs.pop("activation_function", "gelu")
        self.head_activation = kwargs.pop("head_activation", "tanh")
        super().__init__(**{"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, **kwargs})


PyramidionRobertaConfig.register_for_auto_class()  # so that its file is saved with it
