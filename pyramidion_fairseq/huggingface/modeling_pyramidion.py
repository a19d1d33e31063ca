"""BART with a sparse, pooled encoder (pyramidion_fairseq) for transformers. Needs torch and transformers alone."""

from __future__ import annotations

from argparse import Namespace

from torch import Tensor, nn
from transformers import BartForConditionalGeneration, BartModel

from ..attention.rotations import RandomRotations
from .configuration_pyramidion import PyramidionBartConfig
from .encoder_pyramidion import PooledEncoderOutput, PyramidionBartEncoder
from .positions import FixedPositions


class PyramidionBartModel(BartModel):
    """transformers' BART with our encoder; its decoder reads k vectors a document instead of n."""

    config_class = PyramidionBartConfig

    def __init__(self, config: PyramidionBartConfig):
        super().__init__(config)
        options = Namespace(**config.pyramidion)
        self.encoder = PyramidionBartEncoder(config, self.shared)
        if not options.decoder_positions:
            self.decoder.embed_positions = FixedPositions(config.d_model, None)
        elif not options.decoder_learned_pos:
            self.decoder.embed_positions = FixedPositions(config.d_model, config.pad_token_id)
        if not options.layernorm_embedding:
            self.decoder.layernorm_embedding = nn.Identity()
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, RandomRotations):  # no part of the checkpoint: they follow from their seed
            module.fixed.copy_(module.draw())
        else:
            super()._init_weights(module)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_outputs: PooledEncoderOutput | None = None,
        **kwargs,
    ):
        """As of transformers' BartModel; the decoder gets the mask of the pooled vectors.

        Raises:
            ValueError: ``encoder_outputs`` is not what the encoder has returned.
        """
        if kwargs.get("inputs_embeds") is not None:
            raise ValueError("the encoder takes input_ids: it tells padding by them")
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask)
        if getattr(encoder_outputs, "attention_mask", None) is None:
            raise ValueError(
                "encoder_outputs must be what the encoder returned: the mask of the pooled vectors is in it"
            )
        mask = encoder_outputs.attention_mask
        return super().forward(input_ids, attention_mask=mask, encoder_outputs=encoder_outputs, **kwargs)


class PyramidionBartForConditionalGeneration(BartForConditionalGeneration):
    """transformers' BART for generation, around :class:`PyramidionBartModel`."""

    config_class = PyramidionBartConfig

    def __init__(self, config: PyramidionBartConfig):
        super().__init__(config)
        self.model = PyramidionBartModel(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, RandomRotations):
            module.fixed.copy_(module.draw())
        else:
            super()._init_weights(module)
