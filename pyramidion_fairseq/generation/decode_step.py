"""One step of generation: the next token of every hypothesis through fairseq's decoder layers.

The layers and their weights are fairseq's; what differs from its incremental ``forward`` is where keys and values lie
(:class:`~.kv_cache.DecodingState`). The results agree with it to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fairseq.modules import MultiheadAttention
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase
from torch import Tensor, nn

from .cross_attention import reading_of
from .kv_cache import DecodingState
from .linear import few_rows_linear


def obstacle(decoder: nn.Module) -> str | None:
    """Return why :func:`decode_step` does not do all that the decoder's layers do; None where it does.

    It leaves out what the paper does not use: for instance, layers that are wrapped (fully sharded training),
    quantised or watched by hooks, and dropout that stays on in generation (``--retain-dropout``).
    """
    if decoder.adaptive_softmax is not None:
        return "the decoder has an adaptive softmax"
    if decoder.quant_noise is not None:
        return "the decoder has quantisation noise"
    if type(decoder.output_projection) is not nn.Linear:
        return f"the output projection is of type {type(decoder.output_projection).__name__}"
    for number, layer in enumerate(decoder.layers, start=1):
        reason = _obstacle_in(layer)
        if reason is not None:
            return f"layer {number} of the decoder {reason}"
    return None


def _obstacle_in(layer: nn.Module) -> str | None:
    if type(layer) is not TransformerDecoderLayerBase:
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
    if any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules()):
        return "is watched by hooks"
    return None


def _is_stock_attention(attention: nn.Module) -> bool:
    return (
        type(attention) is MultiheadAttention
        and all(type(getattr(attention, f"{name}_proj")) is nn.Linear for name in ("q", "k", "v", "out"))
        and attention.bias_k is None
        and not attention.add_zero_attn
        and not attention.use_xformers
    )


def start(
    decoder: nn.Module, states: Tensor, padding_mask: Tensor | None, rows: int, recorded: bool = False
) -> DecodingState:
    """Project the documents' keys and values, once.

    Args:
        decoder: fairseq's.
        states: (k, B, C) the encoder's output.
        padding_mask: (B, k) bool, True on padding, or None.
        rows: R, hypotheses; a multiple of B, those of a document beside each other.
        recorded: the steps will be recorded and replayed.
    """
    states = states.transpose(0, 1)
    reading = reading_of(states, rows // states.size(0))
    pairs = [reading.project(layer.encoder_attn, states) for layer in decoder.layers]
    if padding_mask is not None and not padding_mask.any():
        padding_mask = None
    if reading.missing:
        mask = padding_mask if padding_mask is not None else states.new_zeros(states.shape[:2], dtype=torch.bool)
        padding_mask = F.pad(mask, (0, reading.missing), value=True)
    return DecodingState(pairs, padding_mask, rows // states.size(0), reading, recorded)


def decode_step(
    layers: nn.ModuleList,
    x: Tensor,
    hidden: Tensor,
    state: DecodingState,
    weights_of: int | None = None,
    heads: int | None = None,
) -> tuple[list[Tensor], Tensor | None]:
    """The newest token of every hypothesis through all layers.

    Args:
        layers: fairseq's decoder layers.
        x: (R, C) embedded tokens.
        hidden: (R,) bool, True where the token is padding.
        state: of the steps before, with room for this one; changed.
        weights_of: the layer, counted from 0, whose attention to the document is returned.
        heads: h, how many of its heads, the first ones; None: all.

    Returns:
        (R, C) x and the output of each layer; (h, R, 1, k) float attention weights, or None.
    """
    state.begin_step(hidden)
    outputs, weights = [x], None
    for number, layer in enumerate(layers):
        x = _residual(layer.self_attn_layer_norm, layer.normalize_before, x, _self_attention, layer, number, state)
        queries = layer.encoder_attn_layer_norm(x) if layer.normalize_before else x
        if number == weights_of:
            weights = attention_weights(layer.encoder_attn, queries, state, number, heads)
        x = _residual(layer.encoder_attn_layer_norm, layer.normalize_before, x, _attend_document, layer, number, state)
        x = _residual(layer.final_layer_norm, layer.normalize_before, x, _feed_forward, layer)
        outputs.append(x)
    state.end_step()
    return outputs, weights


def _residual(norm: nn.Module, before: bool, x: Tensor, block, *args) -> Tensor:
    """x + block(x), with the layer norm before the block or after the sum."""
    if before:
        return x + block(norm(x), *args)
    return norm(x + block(x, *args))


def _heads(attention: nn.Module, x: Tensor, state: DecodingState) -> Tensor:
    """(R, C) -> queries (B, H, beam, D)."""
    queries = few_rows_linear(attention.q_proj, x)
    return queries.view(-1, state.beam, attention.num_heads, attention.head_dim).transpose(1, 2)


def _joined(attention: nn.Module, heads: Tensor) -> Tensor:
    """(B, H, beam, D) -> (R, C)."""
    return few_rows_linear(attention.out_proj, heads.transpose(1, 2).flatten(2).flatten(0, 1))


def _self_attention(x: Tensor, layer: nn.Module, number: int, state: DecodingState) -> Tensor:
    attention = layer.self_attn
    new = (few_rows_linear(projection, x) for projection in (attention.k_proj, attention.v_proj))
    keys, values = state.write(number, *new)
    queries = _heads(attention, x, state)
    return _joined(attention, F.scaled_dot_product_attention(queries, keys, values, attn_mask=state.past()))


def _attend_document(x: Tensor, layer: nn.Module, number: int, state: DecodingState) -> Tensor:
    queries = _heads(layer.encoder_attn, x, state)
    keys, values = state.documents[number]
    return _joined(layer.encoder_attn, state.reading.attend(queries, keys, values, state.document_mask))


def _feed_forward(x: Tensor, layer: nn.Module) -> Tensor:
    return few_rows_linear(layer.fc2, layer.activation_fn(few_rows_linear(layer.fc1, x)))


def attention_weights(
    attention: nn.Module, x: Tensor, state: DecodingState, number: int, heads: int | None = None
) -> Tensor:
    """(h, R, 1, k) weights with which the first h heads of (R, C) hypotheses read the document in layer ``number``.

    float32 at least.
    """
    queries = _heads(attention, x, state)[:, :heads] * attention.scaling
    scores = state.reading.scores(queries, state.reading.first_heads(state.documents[number][0], heads))
    if state.document_mask is not None:
        scores = scores + state.document_mask
    weights = scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(dim=-1)[..., : state.reading.tokens]
    return weights.transpose(0, 1).flatten(1, 2).unsqueeze(2)
