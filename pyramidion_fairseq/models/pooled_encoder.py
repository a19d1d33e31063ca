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


class FullLength(NamedTuple):
    """Documents before the first pooling, to whose length the output is upsampled."""

    x: Tensor
    """(B, G + T, C), global tokens first."""
    padding_mask: Tensor | None
    """(B, T) bool, True on padding; None if nothing is padded."""


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
    first_number: int = 1,
) -> PooledStates:
    """Run the layers, and pool after those named by the schedule.

    Args:
        embed: returns the embedded documents, (B, T, C), or (B, G + T, C) with global tokens first. Called in here so
            that no caller keeps them alive while the layers run.
        padding_mask: (B, T) bool, True on padding of the documents; None if nothing is padded.
        layers: layers to run, from the first to the last.
        poolings: ``RepresentationPooling`` modules keyed by the layer after which they pool, counted from "1".
        call_layer: function that runs one layer.
        document_lengths: number of tokens of each document, if known on the host; see :meth:`EncoderAttention.attend`.
        global_tokens: global tokens, or a first token that is never pooled, with which the embedded documents start.
        layer_norm: layer norm of the output, if any.
        keep_states: whether to return the states between the layers.
        pool: pooling function; :func:`pool_documents` unless other devices hold a part of the documents.
        holds_start: whether the first tokens of the documents are on this device.
        first_number: number of the first of ``layers`` in the encoder.
    """
    x, pool = embed(), pool or pool_documents
    num_globals = 0 if global_tokens is None else global_tokens.count
    states = [x[:, num_globals:]] if keep_states else []
    slot_of_token, weights = list[Tensor](), list[Tensor]()
    added_scores: Tensor | None = None
    full_length: FullLength | None = None
    for number, layer in enumerate(layers, start=first_number):
        key_padding_mask = padding_mask
        if global_tokens is not None:
            key_padding_mask = global_tokens.key_padding_mask(x, padding_mask, holds_start and not slot_of_token)
        x, attention = call_layer(layer, x, key_padding_mask, document_lengths)
        if str(number) in poolings:
            pooling: Any = poolings[str(number)]
            if pooling.pooler.upsamples and full_length is None:
                full_length = FullLength(x, padding_mask)
            received = None if attention is None else attention[:, num_globals:]
            pooled, document_lengths = pool(pooling, x[:, num_globals:], padding_mask, received, document_lengths)
            x = torch.cat([x[:, :num_globals], pooled.embeddings], dim=1) if num_globals else pooled.embeddings
            padding_mask = pooled.padding_mask
            if pooling.pooler.adds_scores_to_attention:
                added_scores = _sum_of_scores(pooled, added_scores)
            slot_of_token.append(pooled.slot_of_token)
            weights.append(pooled.weights)
        if keep_states:
            states.append(x[:, num_globals:])
    if full_length is not None:
        x, padding_mask = _upsample(x, num_globals, slot_of_token, full_length.x), full_length.padding_mask
    x, padding_mask, added_scores = _finish(x, padding_mask, added_scores, global_tokens, layer_norm)
    return PooledStates(x, padding_mask, states, slot_of_token, weights, added_scores)


def pool_documents(
    pooling: RepresentationPooling,
    documents: Tensor,
    padding_mask: Tensor | None,
    attention: Tensor | None,
    document_lengths: Sequence[int] | None,
) -> tuple[Pooled, Sequence[int] | None]:
    """Pool (B, T, C) documents; see :data:`Pool`. The result has no mask if nothing is padded."""
    return with_new_lengths(pooling, pooling(documents, padding_mask, attention), document_lengths)


def with_new_lengths(
    pooling: RepresentationPooling, pooled: Pooled, document_lengths: Sequence[int] | None
) -> tuple[Pooled, list[int] | None]:
    """Return the result of a pooling, without a mask if nothing is padded, and the new document lengths.

    Whether anything is padded is derived from the lengths only, which avoids synchronising with a GPU.

    Args:
        pooling: the pooling.
        pooled: its result.
        document_lengths: lengths before the pooling; None if unknown on the host, and so are the new ones.
    """
    if document_lengths is None:
        return pooled, None
    new_lengths = pooling.lengths_after(document_lengths)
    if min(new_lengths) == pooled.embeddings.size(1):
        pooled = pooled._replace(padding_mask=None)
    return pooled, new_lengths


def _sum_of_scores(pooled: Pooled, before: Tensor | None) -> Tensor:
    """Add, to each slot's score, the scores that its tokens had before: (B, T) or None -> (B, k)."""
    if before is None:
        return pooled.scores
    return pooled.scores.scatter_add(1, pooled.slot_of_token, pooled.weights.to(before.dtype) * before)


def _upsample(x: Tensor, num_globals: int, slot_of_token: Sequence[Tensor], residual: Tensor) -> Tensor:
    """Repeat every vector for each token of its slot, back through all poolings, and add the full-length states.

    Args:
        x: (B, G + k, C), global tokens first.
        num_globals: G.
        slot_of_token: (B, T_i) per pooling.
        residual: (B, G + T, C).
    """
    document = x[:, num_globals:]
    for slots in reversed(slot_of_token):
        document = repeat_slots(document, slots)
    return torch.cat([x[:, :num_globals], document], dim=1) + residual


def _finish(
    x: Tensor,
    padding_mask: Tensor | None,
    added_scores: Tensor | None,
    global_tokens: GlobalTokens | FirstToken | None,
    layer_norm: nn.Module | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the output, its mask and its added scores, given those of the last layer.

    (B, G + k, C), (B, k) bool or None, (B, k) or None -> (B, k', C), (B, k') bool, (B, k') or None.
    """
    if layer_norm is not None:
        x = layer_norm(x)
    if padding_mask is None:
        num_globals = 0 if global_tokens is None else global_tokens.count
        padding_mask = x.new_zeros(len(x), x.size(1) - num_globals, dtype=torch.bool)
    if global_tokens is None:
        return x, padding_mask, added_scores
    x, padding_mask = global_tokens.finish(x, padding_mask)
    return x, padding_mask, None if added_scores is None else global_tokens.finish_scores(added_scores)
