"""The encoder for transformers. It has the same layers, poolings and global tokens, but does not need fairseq."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BartConfig
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput

from ..attention.base import ATTENTIONS
from ..functional.padding import move_padding_right
from ..models.global_tokens import GlobalTokens
from ..models.pooled_encoder import PooledStates, run_pooled_layers
from ..models.pooling import build_poolings
from .positions import FixedPositions, check_length


@dataclass
class PooledEncoderOutput(BaseModelOutput):
    """Output of the encoder: k vectors per document, and their mask."""

    attention_mask: Tensor | None = None
    """(B, k) int64, 1 on vectors, 0 on padding. It is also the last item of the tuple."""


class PyramidionBartEncoderLayer(nn.Module):
    """An encoder layer with BART's names of parameters."""

    def __init__(self, config: BartConfig, options: Namespace, returns_column_sums: bool):
        super().__init__()
        self.self_attn = ATTENTIONS.build(options.attention, options)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model)
        self.activation = ACT2FN[config.activation_function]
        self.dropout, self.activation_dropout = config.dropout, config.activation_dropout
        self.returns_column_sums = returns_column_sums
        self.normalize_before = options.encoder_normalize_before

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Run the layer.

        Args:
            x: (B, T, C).
            padding_mask: (B, T) bool, True on padding, or None.

        Returns:
            (B, T, C), and (B, T) column sums of the attention or None.
        """
        before = self.normalize_before
        read = self.self_attn_layer_norm(x) if before else x
        attention = self.self_attn.received(read, padding_mask) if self.returns_column_sums else None
        attended, _ = self.self_attn(read, key_padding_mask=padding_mask)
        x = x + F.dropout(attended, self.dropout, self.training)
        x = x if before else self.self_attn_layer_norm(x)
        hidden = self.activation(self.fc1(self.final_layer_norm(x) if before else x))
        hidden = self.fc2(F.dropout(hidden, self.activation_dropout, self.training))
        x = x + F.dropout(hidden, self.dropout, self.training)
        return (x if before else self.final_layer_norm(x)), attention


class PyramidionBartEncoder(nn.Module):
    """The equivalent of ``pyramidion_fairseq.models.encoder.PyramidionEncoder``.

    Args:
        config: a :class:`PyramidionBartConfig`.
        embed_tokens: the shared embedding, which scales its output if the model does.
    """

    main_input_name = "input_ids"

    def __init__(self, config: BartConfig, embed_tokens: nn.Module):
        super().__init__()
        options = Namespace(**config.pyramidion)
        options.attention_dropout = getattr(config, "attention_dropout", options.attention_dropout)
        self.config, self.longest = config, options.max_source_positions
        dim, self.padding_idx = config.d_model, config.pad_token_id
        self.embed_tokens, self.dropout = embed_tokens, config.dropout
        self.offset = self.padding_idx + 1 if options.encoder_learned_pos else None
        self.embed_positions: nn.Module
        if self.offset is not None:
            self.embed_positions = nn.Embedding(options.max_source_positions + self.offset, dim, self.padding_idx)
        else:
            self.embed_positions = FixedPositions(dim, self.padding_idx, options.pegasus_positions)
        self.layer_norm = nn.LayerNorm(dim) if options.encoder_normalize_before else None
        self.layernorm_embedding = nn.LayerNorm(dim) if options.layernorm_embedding else nn.Identity()
        self.num_globals = ATTENTIONS.get(options.attention).num_globals(options)
        if self.num_globals:
            scale = 1.0 if options.no_scale_embedding else math.sqrt(dim)
            self.global_embeddings = GlobalTokens.from_config(options, dim, self.num_globals, scale)
        self.poolings = build_poolings(options)
        wanting = {int(layer) for layer, pooling in self.poolings.items() if pooling.needs_attention}
        self.layers = nn.ModuleList(
            PyramidionBartEncoderLayer(config, options, number in wanting)
            for number in range(1, config.encoder_layers + 1)
        )
        #: Both are set by transformers' ``gradient_checkpointing_enable``.
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Any

    def embed(self, tokens: Tensor) -> Tensor:
        """Embed (B, T) right-padded ids to (B, T, C), or (B, G + T, C) with global tokens first; zeros on padding."""
        x = self.embed_tokens(tokens)
        if self.offset is not None:
            x = x + self.embed_positions(torch.arange(tokens.size(1), device=tokens.device) + self.offset)
        else:
            x = x + self.embed_positions(tokens).to(x.dtype)
        x = F.dropout(self.layernorm_embedding(x), self.dropout, self.training)
        x = x.masked_fill(tokens.eq(self.padding_idx).unsqueeze(-1), 0)
        if not self.num_globals:
            return x
        first = self.layernorm_embedding(self.global_embeddings(len(x)))
        return torch.cat([F.dropout(first, self.dropout, self.training), x], dim=1)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **more: Any,
    ) -> PooledEncoderOutput | tuple[Any, ...]:
        """Encode documents.

        Args:
            input_ids: (B, T) ids, padded on either side.
            attention_mask: (B, T), 0 on padding; None masks the padding symbol.
            output_hidden_states: also return the embedded tokens and the output of each layer, (B, T_i, C) each,
                without global tokens; None takes the setting of the configuration.
            return_dict: False returns a tuple.
            more: other arguments of transformers, which are ignored.

        Raises:
            ValueError: a document is longer than the model's positions, there are no tokens, or ``inputs_embeds`` are
                given.
        """
        if input_ids is None or more.get("inputs_embeds") is not None:
            raise ValueError("the encoder needs input_ids, not inputs_embeds, to tell what is padding")
        if not input_ids.numel():
            raise ValueError(f"input_ids of the shape {tuple(input_ids.shape)} have no tokens: give at least </s>")
        tokens = self._right_pad(input_ids, attention_mask)
        padding = tokens.eq(self.padding_idx)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        encoded = self.run(tokens, padding if padding.any() else None, bool(wanted))
        out = PooledEncoderOutput(
            last_hidden_state=encoded.x,
            hidden_states=tuple(encoded.states) if wanted else None,
            attention_mask=(~encoded.padding_mask).long(),
        )
        return out.to_tuple() if return_dict is False else out

    def run(self, tokens: Tensor, padding: Tensor | None, keep_states: bool) -> PooledStates:
        """Run embedding and layers on (B, T) right-padded ids; (B, T) bool, True on padding, or None."""
        return run_pooled_layers(
            lambda: self.embed(tokens),
            padding,
            self.layers,
            self.poolings,
            self._call_layer,
            global_tokens=self.global_embeddings if self.num_globals else None,
            layer_norm=self.layer_norm,
            keep_states=keep_states,
        )

    def _call_layer(
        self, layer: nn.Module, x: Tensor, padding_mask: Tensor | None, _: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Run a layer, with gradient checkpointing if it is enabled."""
        if self.gradient_checkpointing and self.training:
            return self._gradient_checkpointing_func(layer.__call__, x, padding_mask)
        return layer(x, padding_mask)

    def _right_pad(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return (B, T') right-padded ids without columns of padding only; ValueError if they are too long."""
        if attention_mask is not None:
            input_ids = input_ids.masked_fill(attention_mask == 0, self.padding_idx)
        tokens = move_padding_right(input_ids, self.padding_idx)
        if self.offset is not None and tokens.size(1) > self.longest:
            length = max(1, int(tokens.ne(self.padding_idx).sum(dim=1).max()))
            check_length(length, self.longest, "document", "cut it, with truncation=True of the tokenizer")
            tokens = tokens[:, :length]
        return tokens
