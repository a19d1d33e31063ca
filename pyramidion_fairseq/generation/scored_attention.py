"""Decoder attention to vectors whose scores are added to the logits (Qin and Van Durme 2023)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from fairseq.modules import MultiheadAttention
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase
from torch import Tensor


class ScoredAttention(MultiheadAttention):
    """fairseq's attention to a document with a floating mask: scores, and -inf on padding.

    Parameters have fairseq's names. There is no cache: ``incremental_state`` is not used, and keys and values are
    projected in every call. Generation uses :class:`~.kv_cache.DecodingState` instead.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor,
        incremental_state: Any = None,
        need_weights: bool = True,
        static_kv: bool = False,
        need_head_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            query: (T, R, C) decoder states of R hypotheses or summaries.
            key, value: (k, R, C) output of the encoder.
            key_padding_mask: (R, k) floating, added to the logits.
            incremental_state, static_kv: not used.
            need_weights, need_head_weights: whether to return the attention weights.

        Returns:
            (T, R, C); (R, T, k) means over the heads, or (H, R, T, k) with ``need_head_weights``, or None.
        """
        queries, keys, values = (
            projection(x).unflatten(2, (self.num_heads, self.head_dim)).permute(1, 2, 0, 3)
            for projection, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        added = key_padding_mask[:, None, None].to(queries.dtype)
        dropout = self.dropout_module.p if self.training or self.dropout_module.apply_during_inference else 0.0
        out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=added, dropout_p=dropout)
        out = self.out_proj(out.permute(2, 0, 1, 3).flatten(2))
        if not (need_weights or need_head_weights):
            return out, None
        logits = (queries * self.scaling) @ keys.mT + added
        weights = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=3)
        return out, weights.transpose(0, 1) if need_head_weights else weights.mean(dim=1)


class ScoredDecoderLayer(TransformerDecoderLayerBase):
    """fairseq's decoder layer with :class:`ScoredAttention` to the document."""

    def build_encoder_attention(self, embed_dim: int, cfg: Any) -> ScoredAttention:
        """Build the attention to the document."""
        return ScoredAttention(
            embed_dim,
            cfg.decoder.attention_heads,
            kdim=cfg.encoder.embed_dim,
            vdim=cfg.encoder.embed_dim,
            dropout=cfg.attention_dropout,
            encoder_decoder_attention=True,
        )
