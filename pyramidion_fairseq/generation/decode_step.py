"""One generation step: the next token of every hypothesis through fairseq's decoder layers.

The layers and weights are fairseq's. The difference to its incremental ``forward`` is the storage of keys and values
(:class:`~.kv_cache.DecodingState`). The results agree up to rounding.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, Iterable

import torch
import torch.nn.functional as F
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules import MultiheadAttention
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase
from torch import Tensor, nn

from .cross_attention import cross_attention_of
from .kv_cache import DecodingState
from .linear import few_rows_linear
from .scored_attention import ScoredAttention, ScoredDecoderLayer


def unsupported_reason(decoder: TransformerDecoderBase) -> str | None:
    """Return why :func:`decode_step` does not support the decoder, or None if it does.

    Features that the paper does not use are not supported, for instance layers that are wrapped (fully sharded
    training), quantised or watched by hooks, and dropout in generation (``--retain-dropout``).
    """
    if decoder.adaptive_softmax is not None:
        return "the decoder has an adaptive softmax"
    if decoder.quant_noise is not None:
        return "the decoder has quantisation noise"
    if type(decoder.output_projection) is not nn.Linear:
        return f"the output projection is of type {type(decoder.output_projection).__name__}"
    if _has_hooks(decoder.output_projection):
        return "the output projection is watched by hooks"
    for number, layer in enumerate(decoder.layers, start=1):
        reason = _unsupported_reason_in(layer)
        if reason is not None:
            return f"layer {number} of the decoder {reason}"
    return None


def _unsupported_reason_in(layer: TransformerDecoderLayerBase) -> str | None:
    if type(layer) not in (TransformerDecoderLayerBase, ScoredDecoderLayer):
        return f"is of type {type(layer).__name__}"
    if layer.encoder_attn is None or layer.cross_self_attention:
        return "has no attention of its own to the document"
    if any(extra is not None for extra in (layer.c_attn, layer.attn_ln, layer.ffn_layernorm, layer.w_resid)):
        return "scales heads, attention, feed-forward or residuals"
    if not type(layer.fc1) is type(layer.fc2) is nn.Linear:
        return "has a feed-forward part that is quantised or wrapped"
    attentions = (layer.self_attn, layer.encoder_attn)
    if not all(map(_is_stock_attention, attentions)):
        return "has an attention that is not fairseq's plain one"
    dropouts = (layer.dropout_module, layer.activation_dropout_module, *(x.dropout_module for x in attentions))
    if any(dropout.apply_during_inference for dropout in dropouts):
        return "keeps its dropout in generation"
    return "is watched by hooks" if _has_hooks(layer) else None


def _has_hooks(watched: nn.Module) -> bool:
    """Return whether a module, or one of its submodules, has hooks, which the step would not call."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in watched.modules())


def _is_stock_attention(attention: MultiheadAttention) -> bool:
    return (
        type(attention) in (MultiheadAttention, ScoredAttention)
        and all(type(getattr(attention, f"{name}_proj")) is nn.Linear for name in ("q", "k", "v", "out"))
        and attention.bias_k is None
        and not attention.add_zero_attn
        and not attention.use_xformers
    )


def new_decoding_state(
    decoder: TransformerDecoderBase,
    states: Tensor,
    padding_mask: Tensor | None,
    rows: int,
    uses_cuda_graph: bool = False,
    added_scores: Tensor | None = None,
) -> DecodingState:
    """Return the caches of a new generation, for which the documents' keys and values are projected once.

    Args:
        decoder: decoder of fairseq.
        states: (k, B, C) output of the encoder.
        padding_mask: (B, k) bool, True on padding, or None.
        rows: R, number of hypotheses, a multiple of B. The hypotheses of a document are adjacent.
        uses_cuda_graph: whether the steps will be captured and replayed.
        added_scores: (B, k) scores to add to the logits, or None.
    """
    states = states.transpose(0, 1)
    cross_attention = cross_attention_of(states, rows // states.size(0))
    pairs = [cross_attention.project(layer.encoder_attn, states) for layer in decoder.layers]
    if padding_mask is not None and not padding_mask.any():
        padding_mask = None
    if cross_attention.num_padding:
        mask = padding_mask if padding_mask is not None else states.new_zeros(states.shape[:2], dtype=torch.bool)
        padding_mask = F.pad(mask, (0, cross_attention.num_padding), value=True)
        added_scores = None if added_scores is None else F.pad(added_scores, (0, cross_attention.num_padding))
    projections = None
    if states.device.type != "cpu" and not torch.is_autocast_enabled("cuda"):
        projections = [_joined_projections(layer.self_attn) for layer in decoder.layers]
    beam = rows // states.size(0)
    return DecodingState(pairs, padding_mask, beam, cross_attention, uses_cuda_graph, projections, added_scores)


def _joined_projections(attention: MultiheadAttention) -> tuple[Tensor, Tensor | None]:
    """Concatenate weights and biases of query, key and value, so that one product, and one kernel, replaces three.

    Not used on a CPU, where it gains nothing and costs memory, or under autocast, which would convert the copy in
    every step.
    """
    layers = (attention.q_proj, attention.k_proj, attention.v_proj)
    bias = None if attention.q_proj.bias is None else torch.cat([layer.bias for layer in layers])
    return torch.cat([layer.weight for layer in layers]), bias


def decode_step(
    layers: Iterable[TransformerDecoderLayerBase],
    x: Tensor,
    padding: Tensor,
    state: DecodingState,
    attention_layer: int | None = None,
    attention_heads: int | None = None,
) -> tuple[list[Tensor], Tensor | None]:
    """Run the newest token of every hypothesis through all layers.

    Args:
        layers: fairseq's decoder layers.
        x: (R, C) embedded tokens.
        padding: (R,) bool, True if the token is padding.
        state: state of the previous steps, with a reserved position for this step; modified.
        attention_layer: layer, counted from 0, whose attention to the document is returned; None for no attention.
        attention_heads: h, number of its heads, the first ones; None for all.

    Returns:
        A list of (R, C) x and the output of each layer; (h, R, 1, k) float attention weights, or None.
    """
    state.begin_step(padding)
    outputs, weights = [x], None
    for number, layer in enumerate(layers):
        norm_first = layer.normalize_before
        attend_past = partial(_attend_past, layer=layer, number=number, state=state)
        attend_document = partial(_attend_document, layer=layer, number=number, state=state)
        feed_forward = partial(_feed_forward, layer=layer)

        x = _residual(x, attend_past, layer.self_attn_layer_norm, norm_first)
        if number == attention_layer:
            queries = layer.encoder_attn_layer_norm(x) if norm_first else x
            weights = attention_weights(layer.encoder_attn, queries, state, number, attention_heads)
        x = _residual(x, attend_document, layer.encoder_attn_layer_norm, norm_first)
        x = _residual(x, feed_forward, layer.final_layer_norm, norm_first)
        outputs.append(x)
    state.end_step()
    return outputs, weights


def _residual(x: Tensor, block: Callable[[Tensor], Tensor], norm: nn.Module, norm_first: bool) -> Tensor:
    """Return x + block(x) for (R, C) x, with the layer norm before the block or after the sum."""
    return x + block(norm(x)) if norm_first else norm(x + block(x))


def _split_heads(attention: MultiheadAttention, queries: Tensor, state: DecodingState) -> Tensor:
    """Split projected queries into heads: (R, C) -> (B, H, beam, D)."""
    return queries.view(-1, state.beam, attention.num_heads, attention.head_dim).transpose(1, 2)


def _join_heads(attention: MultiheadAttention, heads: Tensor) -> Tensor:
    """Join the heads and project: (B, H, beam, D) -> (R, C)."""
    return few_rows_linear(attention.out_proj, heads.transpose(1, 2).flatten(2).flatten(0, 1))


def _attend_past(x: Tensor, layer: TransformerDecoderLayerBase, number: int, state: DecodingState) -> Tensor:
    attention = layer.self_attn
    if state.projections is None:
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        queries, new_keys, new_values = (few_rows_linear(projection, x) for projection in projections)
    else:
        queries, new_keys, new_values = F.linear(x, *state.projections[number]).chunk(3, dim=1)
    keys, values = state.write(number, new_keys, new_values)
    queries = _split_heads(attention, queries, state)
    mask = state.self_attention_mask()
    return _join_heads(attention, F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask))


def _attend_document(x: Tensor, layer: TransformerDecoderLayerBase, number: int, state: DecodingState) -> Tensor:
    queries = _split_heads(layer.encoder_attn, few_rows_linear(layer.encoder_attn.q_proj, x), state)
    keys, values = state.document_keys_values[number]
    return _join_heads(layer.encoder_attn, state.cross_attention.attend(queries, keys, values, state.document_mask))


def _feed_forward(x: Tensor, layer: TransformerDecoderLayerBase) -> Tensor:
    return few_rows_linear(layer.fc2, layer.activation_fn(few_rows_linear(layer.fc1, x)))


def attention_weights(
    attention: MultiheadAttention, x: Tensor, state: DecodingState, number: int, heads: int | None = None
) -> Tensor:
    """Return the attention of the first h heads of (R, C) hypotheses to the document in layer ``number``.

    The result is (h, R, 1, k), at least float32.
    """
    projection, size = attention.q_proj, (heads or attention.num_heads) * attention.head_dim
    bias = None if projection.bias is None else projection.bias[:size]
    queries = F.linear(x, projection.weight[:size], bias) * attention.scaling
    queries = queries.view(-1, state.beam, size // attention.head_dim, attention.head_dim).transpose(1, 2)
    keys = state.cross_attention.first_heads(state.document_keys_values[number][0], heads)
    scores = state.cross_attention.scores(queries, keys)
    if state.document_mask is not None:
        scores = scores + state.document_mask
    weights = scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(dim=-1)
    weights = weights[..., : state.cross_attention.tokens]
    return weights.transpose(0, 1).flatten(1, 2).unsqueeze(2)
