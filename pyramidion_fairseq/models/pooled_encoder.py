"""The encoder's loop over layers and poolings, without fairseq, so that models exported to transformers can run it."""

from __future__ import annotations

from typing import Any, Callable, Iterable, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from ..functional.topk.successive_halving import Pooled
from ..functional.topk.window_pooling import repeat_slots
from .first_token import FirstToken
from .global_tokens import GlobalTokens
from .pooling import RepresentationPooling

#: Runs a layer: (layer, (B, T, C), (B, T) bool key padding mask or None, document lengths or None) -> (B, T, C) and
#: the (B, T) column sums of its attention, including global tokens, or None if the next scorer does not read them.
CallLayer = Callable[[nn.Module, Tensor, "Tensor | None", "Sequence[int] | None"], "tuple[Tensor, Tensor | None]"]


#: Pools documents: (pooling, (B, T, C), (B, T) bool padding mask or None, (B, T) column sums or None, document lengths
#: or None) -> the result of the pooling, and the new lengths.
Pool = Callable[
    ["RepresentationPooling", Tensor, "Tensor | None", "Tensor | None", "Sequence[int] | None"],
    "tuple[Pooled, Sequence[int] | None]",
]


class PooledStates(NamedTuple):
    """Result of :func:`run_pooled_layers`."""

    x: Tensor
    """(B, k, C) output of the last layer; (B, G + k, C), global tokens first, if they are part of the output."""
    padding_mask: Tensor
    """(B, k) or (B, G + k) bool, True on padding."""
    states: list[Tensor]
    """(B, T_i, C) embeddings and output of each layer after its pooling, without global tokens; empty unless
    requested."""
    slot_of_token: list[Tensor]
    """(B, T_i) int64 per pooling: the slot of each input token, not counting global tokens as slots."""
    weights: list[Tensor]
    """(B, T_i) per pooling: the weight of each input token in its slot, at least float32."""
    added_scores: Tensor | None
    """(B, k) or (B, G + k) scores to add to the decoder's attention logits, at least float32; None if there are
    none."""


def run_pooled_layers(
    embed: Callable[[], Tensor],
    padding_mask: Tensor | None,
    layers: Iterable[nn.Module],
    poolings: nn.ModuleDict,
    call_layer: CallLayer,
    document_lengths: Sequence[int] | None = None,
    global_tokens: GlobalTokens | FirstToken | None = None,
    layer_norm: nn.Module | None = None,
    keep_states: bool = False,
    pool: Pool | None = None,
    holds_start: bool = True,
) -> PooledStates:
    """Run the layers, and pool after those named by the schedule.

    Args:
        embed: returns the embedded documents, (B, T, C), or (B, G + T, C) with global tokens first. Called in here so
            that no caller keeps them alive while the layers run.
        padding_mask: (B, T) bool, True on padding of the documents; None if nothing is padded.
        layers: layers, from the first to the last.
        poolings: ``RepresentationPooling`` modules keyed by the layer after which they pool, counted from "1".
        call_layer: function that runs one layer.
        document_lengths: number of tokens of each document, if known on the host; see :meth:`EncoderAttention.attend`.
        global_tokens: global tokens, or a first token that is never pooled, with which the embedded documents start.
        layer_norm: layer norm of the output, if any.
        keep_states: whether to return the states between the layers.
        pool: pooling function; :func:`pool_documents` unless other devices hold a part of the documents.
        holds_start: whether the first tokens of the documents are on this device.
    """
    x, pool = embed(), pool or pool_documents
    first = 0 if global_tokens is None else global_tokens.used  # index of the document's first token
    states = [x[:, first:]] if keep_states else []
    slot_of_token, weights = list[Tensor](), list[Tensor]()
    added_scores: Tensor | None = None
    full_length: tuple[Tensor, Tensor | None] | None = None
    for number, layer in enumerate(layers, start=1):
        key_padding_mask = padding_mask
        if global_tokens is not None:
            key_padding_mask = global_tokens.key_padding_mask(x, padding_mask, not holds_start or bool(slot_of_token))
        x, attention = call_layer(layer, x, key_padding_mask, document_lengths)
        if str(number) in poolings:
            pooling: Any = poolings[str(number)]
            if pooling.pooler.upsamples and full_length is None:
                full_length = x, padding_mask
            received = None if attention is None else attention[:, first:]
            pooled, document_lengths = pool(pooling, x[:, first:], padding_mask, received, document_lengths)
            x = torch.cat([x[:, :first], pooled.embeddings], dim=1) if first else pooled.embeddings
            padding_mask = pooled.padding_mask
            if pooling.pooler.adds_scores_to_attention:
                added_scores = _sum_of_scores(pooled, added_scores)
            slot_of_token.append(pooled.slot_of_token)
            weights.append(pooled.weights)
        if keep_states:
            states.append(x[:, first:])
    if full_length is not None:
        x, padding_mask = _upsample(x, first, slot_of_token, full_length[0]), full_length[1]
    x, padding_mask = _finish(x, padding_mask, global_tokens, layer_norm)
    if added_scores is not None and global_tokens is not None:
        added_scores = global_tokens.finish_scores(added_scores)
    return PooledStates(x, padding_mask, states, slot_of_token, weights, added_scores)


def pool_documents(
    pooling: RepresentationPooling,
    documents: Tensor,
    padding_mask: Tensor | None,
    attention: Tensor | None,
    document_lengths: Sequence[int] | None,
) -> tuple[Pooled, Sequence[int] | None]:
    """Pool (B, T, C) documents. Returns the result, without a mask if nothing is padded, and the new lengths.

    Whether anything is padded is derived from the lengths only, which avoids synchronising with a GPU.
    """
    pooled: Pooled = pooling(documents, padding_mask, attention)
    if document_lengths is None:
        return pooled, None
    document_lengths = pooling.lengths_after(document_lengths)
    if min(document_lengths) == pooled.embeddings.size(1):
        pooled = pooled._replace(padding_mask=None)
    return pooled, document_lengths


def _sum_of_scores(pooled: Pooled, before: Tensor | None) -> Tensor:
    """Add, to each slot's score, the scores that its tokens had before: (B, T) or None -> (B, k)."""
    if before is None:
        return pooled.scores
    return pooled.scores.scatter_add(1, pooled.slot_of_token, pooled.weights.to(before.dtype) * before)


def _upsample(x: Tensor, first: int, slot_of_token: Sequence[Tensor], residual: Tensor) -> Tensor:
    """Repeat every vector for each token of its slot, back through all poolings, and add the full-length states.

    Args:
        x: (B, G + k, C), global tokens first.
        first: G.
        slot_of_token: (B, T_i) per pooling.
        residual: (B, G + T, C).
    """
    document = x[:, first:]
    for slots in reversed(slot_of_token):
        document = repeat_slots(document, slots)
    return torch.cat([x[:, :first], document], dim=1) + residual


def _finish(
    x: Tensor,
    padding_mask: Tensor | None,
    global_tokens: GlobalTokens | FirstToken | None,
    layer_norm: nn.Module | None,
) -> tuple[Tensor, Tensor]:
    """Return the output and its mask: (B, G + k, C), (B, k) or None -> (B, k', C), (B, k') bool."""
    if layer_norm is not None:
        x = layer_norm(x)
    if padding_mask is None:
        first = 0 if global_tokens is None else global_tokens.used
        padding_mask = x.new_zeros(len(x), x.size(1) - first, dtype=torch.bool)
    return (x, padding_mask) if global_tokens is None else global_tokens.finish(x, padding_mask)
