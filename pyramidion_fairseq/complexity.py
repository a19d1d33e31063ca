"""Cost of an architecture, computed from its schedule and layer shapes (paper, section 3.2, Table 1)."""

from __future__ import annotations

import functools
from argparse import Namespace
from typing import Any, NamedTuple

import torch
from fairseq.data import Dictionary
from torch import nn

from .models import PyramidionModel
from .models.architectures import fields_of
from .models.decoder import PyramidionDecoder
from .models.encoder import PyramidionEncoder


class Cost(NamedTuple):
    """Multiplications of one document's forward pass, by part, and number of elements written."""

    encoder_linear: int
    """Projections and feed-forward layers of the encoder."""
    encoder_attention: int
    """Queries times keys, and weights times values: what sparse attention reduces."""
    pooling: int
    """Scorers, and one weight per token and coordinate. Relaxations of top-k need k weights, which is not counted."""
    decoder_linear: int
    """Projections (including those of the encoder's vectors), feed-forward layers and the output layer."""
    decoder_self_attention: int
    """t x t per layer, because training computes the whole square."""
    cross_attention: int
    """t x k per layer."""
    encoder_activations: int
    """Elements written by the encoder's linear layers and as attention weights."""
    decoder_activations: int
    """Elements written by the decoder's linear layers and as attention weights."""

    @property
    def multiplications(self) -> int:
        """Total number of multiplications."""
        return sum(self[:6])

    @property
    def decoder_attention(self) -> int:
        """Self- and cross-attention of the decoder."""
        return self.decoder_self_attention + self.cross_attention


def build_on_meta(arch: str, vocabulary: int = 32000, **changes: Any) -> PyramidionModel:
    """Build the model of a named architecture on the meta device, with shapes but no memory.

    Args:
        arch: a name of :data:`~pyramidion_fairseq.models.architectures.ARCHITECTURES`.
        vocabulary: number of symbols.
        changes: options of PyramidionConfig to override.
    """
    dictionary = _numbered_dictionary(vocabulary)
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    with torch.device("meta"):
        return PyramidionModel.build_model(Namespace(**{**fields_of(arch), **changes}), task)


@functools.lru_cache(maxsize=1)
def _numbered_dictionary(vocabulary: int) -> Dictionary:
    """Return a dictionary of the given size, cached for all models built on the meta device."""
    dictionary = Dictionary()
    for i in range(vocabulary - len(dictionary)):
        dictionary.add_symbol(str(i))
    return dictionary


def count(model: PyramidionModel, source: int, target: int) -> Cost:
    """Count the cost of one document of ``source`` tokens with a summary of ``target`` tokens, teacher-forced.

    Args:
        model: any model. The values of its parameters do not matter (see :func:`build_on_meta`).
        source: document length in tokens, cut to the model's length as in the task.
        target: summary length in tokens.
    """
    source = min(source, model.max_positions()[0])
    upsamples = any(stage.pooler.upsamples for stage in model.encoder.poolings.values())
    kept = source if upsamples else model.encoder.schedule.output_length(source)
    kept += model.encoder.output_globals
    return Cost(**_count_encoder(model.encoder, source), **_count_decoder(model.decoder, kept, target))


def _count_encoder(encoder: PyramidionEncoder, source: int) -> dict[str, int]:
    linear = attention = pooling = activations = 0
    for number, length in enumerate(encoder.schedule.input_lengths(source, len(encoder.layers)), start=1):
        layer = encoder.layers[number - 1]
        of_attention = layer.self_attn.multiplications(length)
        cells = of_attention // (2 * layer.embed_dim)  # each costs d multiplications for its logit and d for its value
        linear += (length + encoder.num_globals) * _linear_weights(layer)
        attention += of_attention
        activations += (length + encoder.num_globals) * _linear_outputs(layer) + cells * layer.self_attn.num_heads
        if str(number) in encoder.poolings:
            stage: Any = encoder.poolings[str(number)]
            pooling += length * (_linear_weights(stage) + (layer.embed_dim if length > stage.k else 0))
    return {
        "encoder_linear": linear,
        "encoder_attention": attention,
        "pooling": pooling,
        "encoder_activations": activations,
    }


def _count_decoder(decoder: PyramidionDecoder, kept: int, target: int) -> dict[str, int]:
    linear, activations = (
        target * _linear_weights(decoder.output_projection),
        target * _linear_outputs(decoder.output_projection),
    )
    self_attention = cross = 0
    for layer in decoder.layers:
        memory = nn.ModuleList([layer.encoder_attn.k_proj, layer.encoder_attn.v_proj])  # applied to the k vectors
        linear += target * (_linear_weights(layer) - _linear_weights(memory)) + kept * _linear_weights(memory)
        activations += target * (_linear_outputs(layer) - _linear_outputs(memory)) + kept * _linear_outputs(memory)
        activations += target * (target * layer.self_attn.num_heads + kept * layer.encoder_attn.num_heads)
        self_attention += 2 * target * target * layer.embed_dim
        cross += 2 * target * kept * layer.embed_dim
    return {
        "decoder_linear": linear,
        "decoder_self_attention": self_attention,
        "cross_attention": cross,
        "decoder_activations": activations,
    }


def _linear_weights(module: nn.Module) -> int:
    """Return the number of multiplications per token of all linear layers in a module."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


def _linear_outputs(module: nn.Module) -> int:
    """Return the number of elements per token written by all linear layers in a module."""
    return sum(m.out_features for m in module.modules() if isinstance(m, nn.Linear))
