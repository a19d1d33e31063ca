"""One layer of the encoder."""

from __future__ import annotations

import functools
import os
import shutil
from typing import Any, Callable, Sequence

import torch
from fairseq.modules.fairseq_dropout import FairseqDropout
from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
from torch import Tensor, nn

from ..attention import ATTENTIONS
from ..attention.lsg import GlobalContext
from ..errors import PyramidionError
from ..functional import dropout, relu_dropout
from ..parallel import TokenShards
from .chunked_layer import forward_in_chunks


class Dropout(FairseqDropout):
    """fairseq's dropout module, computed by :func:`~pyramidion_fairseq.functional.dropout`."""

    @property
    def active(self) -> float:
        """Return the probability for :meth:`forward`: 0 in evaluation, unless fairseq retains dropout in inference."""
        return self.p if self.training or self.apply_during_inference else 0.0

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        return dropout(x, self.active)


class PyramidionEncoderLayer(TransformerEncoderLayerBase):
    """fairseq's encoder layer on (B, T, C), with a registered attention.

    Parameters have fairseq's names.

    Args:
        cfg: fairseq's TransformerConfig, with the options of this package (``config.complete``) in ``cfg.options``.
    """

    #: Set by :meth:`return_column_sums`.
    returns_column_sums = False
    #: Number of tokens read at a time, 0 for all. Set by the encoder's ``read_in_chunks`` if blocks attend to other
    #: blocks.
    chunk_tokens = 0

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        for name in ("dropout_module", "activation_dropout_module"):
            setattr(self, name, Dropout(getattr(self, name).p, module_name=type(self).__name__))
        self.has_relu = cfg.activation_fn == "relu"
        self.compiled = cfg.options.compile_encoder_layers
        if self.compiled:
            _check_compiler()

    def build_self_attention(self, embed_dim: int, cfg: Any) -> nn.Module:
        return ATTENTIONS.build(cfg.options.attention, cfg.options)

    def return_column_sums(self) -> None:
        """Make :meth:`forward` also return the attention received by each token.

        Raises:
            PyramidionError: the attention does not implement it.
        """
        if not self.self_attn.has_column_sums:
            raise PyramidionError(
                f"the scorer needs the column sums of the attention, which {type(self.self_attn).__name__} does not "
                "have: use --attention full, blockwise or lsg with --scorer attention_sum"
            )
        self.returns_column_sums = True

    def forward(
        self,
        x: Tensor,
        encoder_padding_mask: Tensor | None,
        document_lengths: Sequence[int] | None = None,
        shards: TokenShards | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Apply attention and feed-forward layers.

        Args:
            x: (B, T, C).
            encoder_padding_mask: (B, T) bool, True on padding, on the right only; None if there is no padding.
            document_lengths: number of tokens of each document, if known on the host; see ``EncoderAttention.attend``.
            shards: shards of the tokens held by other ranks; None if all tokens are in ``x``.

        Returns:
            (B, T, C); and (B, T) column sums if :meth:`return_column_sums` was called.
        """
        if self.chunk_tokens and x.size(1) > self.chunk_tokens + self.self_attn.num_global_tokens:
            return forward_in_chunks(self, x, encoder_padding_mask, self.chunk_tokens)
        return self.forward_at_once(x, encoder_padding_mask, document_lengths, shards)

    def before_attention(self, x: Tensor) -> Tensor:
        """Return the input of the attention, given that of the layer: (B, T, C) -> (B, T, C)."""
        return self.self_attn_layer_norm(x) if self.normalize_before else x

    def forward_at_once(
        self,
        x: Tensor,
        encoder_padding_mask: Tensor | None,
        document_lengths: Sequence[int] | None,
        shards: TokenShards | GlobalContext | None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Run :meth:`forward` on tokens that are read at once: all of them, a rank's part, or a chunk."""
        attended = self.before_attention(x)
        out, _ = self.self_attn(
            query=attended, key_padding_mask=encoder_padding_mask, document_lengths=document_lengths, shards=shards
        )
        out = (_compiled() if self.compiled else PyramidionEncoderLayer.feed_forward)(self, out, x)
        if not self.returns_column_sums:
            return out
        return out, self.self_attn.received(attended, encoder_padding_mask)

    def feed_forward(self, attended: Tensor, residual: Tensor) -> Tensor:
        """Apply the operations that act on each token separately to the attention's output and the layer's input.

        Args:
            attended, residual: (B, T, C).
        """
        x = residual + self.dropout_module(attended)
        if not self.normalize_before:
            x = self.self_attn_layer_norm(x)
        hidden = self.fc1(self.final_layer_norm(x) if self.normalize_before else x)
        if self.has_relu:
            hidden = relu_dropout(hidden, self.activation_dropout_module.active)
        else:
            hidden = self.activation_dropout_module(self.activation_fn(hidden))
        x = x + self.dropout_module(self.fc2(hidden))
        return x if self.normalize_before else self.final_layer_norm(x)


def call_layer(
    layer: nn.Module,
    x: Tensor,
    key_padding_mask: Tensor | None,
    document_lengths: Sequence[int] | None,
    shards: TokenShards | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Run a layer, wrapped or not; see :data:`~pyramidion_fairseq.models.pooled_encoder.CallLayer`."""
    out = layer(x, encoder_padding_mask=key_padding_mask, document_lengths=document_lengths, shards=shards)
    return out if isinstance(out, tuple) else (out, None)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    """Return the compiled ``feed_forward``, one function shared by all layers.

    It is not an attribute of a layer, because a copied layer would then compute with the weights of the original. It
    is compiled on first use, because importing torch's compiler takes as long as importing fairseq.
    """
    return torch.compile(PyramidionEncoderLayer.feed_forward, dynamic=True)


def _check_compiler() -> None:
    found = [name for name in (os.environ.get("CXX"), "g++", "clang++") if name and shutil.which(name)]
    if not found:
        raise PyramidionError(
            "--compile-encoder-layers needs a C++ compiler (g++ or clang++, or its name in CXX), and there is none"
        )
