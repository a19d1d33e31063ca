"""BART with a sparse, pooled encoder (pyramidion_fairseq) for transformers. It needs only torch and transformers."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from torch import Tensor, nn
from transformers import BartForConditionalGeneration, BartModel
from transformers.models.mbart.modeling_mbart import MBartDecoder

from ..attention.rotations import RandomRotations
from .configuration_pyramidion import PyramidionBartConfig
from .encoder_pyramidion import PooledEncoderOutput, PyramidionBartEncoder
from .positions import FixedPositions, LearnedPositions


class _FixedRotations:
    """Initialise LSH's rotations from their seed. By default, transformers would initialise them at random."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, RandomRotations):  # not in the checkpoint, as they are computed from a seed
            module.get_buffer("fixed").copy_(module.fixed_numbers())
        else:
            super()._init_weights(module)  # type: ignore[misc]


class PyramidionBartModel(_FixedRotations, BartModel):
    """transformers' BART with a pooled encoder. The decoder attends to k vectors per document instead of n."""

    config_class = PyramidionBartConfig

    def __init__(self, config: PyramidionBartConfig):
        super().__init__(config)
        options = Namespace(**(config.pyramidion or {}))
        self.encoder = PyramidionBartEncoder(config, self.shared)
        if options.decoder_normalize_before:
            self.decoder = MBartDecoder(config)
            self.decoder.embed_tokens = self.shared
        if not options.decoder_positions:
            self.decoder.embed_positions = FixedPositions(config.d_model, None)
        elif not options.decoder_learned_pos:
            self.decoder.embed_positions = FixedPositions(
                config.d_model, config.pad_token_id, options.pegasus_positions
            )
        else:
            self.decoder.embed_positions = LearnedPositions(config.max_position_embeddings, config.d_model)
        if not options.layernorm_embedding:
            self.decoder.layernorm_embedding = nn.Identity()
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_outputs: PooledEncoderOutput | tuple[Any, ...] | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run transformers' BartModel with the mask of the pooled vectors for the decoder.

        Raises:
            ValueError: ``encoder_outputs`` are not an output of the encoder, ``inputs_embeds`` are given for
                documents, or a text is longer than the model's positions.
        """
        encoded: Any = encoder_outputs
        if encoded is None:
            states, embedded = kwargs.get("output_hidden_states"), kwargs.get("inputs_embeds")
            encoded = self.encoder(input_ids, attention_mask, states, inputs_embeds=embedded)
        elif isinstance(encoded, tuple) and len(encoded) in (2, 3) and isinstance(encoded[-1], Tensor):
            last, *hidden, mask = encoded  # hidden has the states of all layers, if requested
            encoded = PooledEncoderOutput(last, *hidden, attention_mask=mask)
        if getattr(encoded, "attention_mask", None) is None:
            raise ValueError(
                "encoder_outputs must be the encoder's own output, which includes the mask of the pooled vectors"
            )
        mask = encoded.attention_mask
        out = super().forward(input_ids, attention_mask=mask, encoder_outputs=encoded, return_dict=True, **kwargs)
        wanted = self.config.return_dict if return_dict is None else return_dict
        return out if wanted else out.to_tuple()


class PyramidionBartForConditionalGeneration(_FixedRotations, BartForConditionalGeneration):
    """transformers' BART for generation, with a :class:`PyramidionBartModel`."""

    config_class = PyramidionBartConfig
    #: The loss is a mean over the batch, so that Trainer divides it by the number of accumulated batches.
    accepts_loss_kwargs = False

    def __init__(self, config: PyramidionBartConfig):
        super().__init__(config)
        self.model = PyramidionBartModel(config)
        self.post_init()


# Older releases of transformers need this to save the source files with a model.
PyramidionBartModel.register_for_auto_class("AutoModel")
PyramidionBartForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")
