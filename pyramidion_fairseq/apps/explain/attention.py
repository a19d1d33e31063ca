"""The decoder's cross-attention for a finished summary, computed separately from beam search."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any, Iterator, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from ...generation.encoder_output import ADDED_SCORES, COPY_SOURCE, POOLING_SLOTS
from .copies import TokenCopies, find_copies

#: Maximum number of attention weights of a layer, over all heads, that are computed at once.
BUDGET = 1 << 24


class SummaryReading(NamedTuple):
    """Attention and copies of the decoder for B documents and their summaries of t tokens."""

    attention: Tensor
    """(B, t, k) float32 at least: attention to the encoder's k vectors; rows of padding are meaningless."""
    copies: list[TokenCopies] | None
    """One per document; None if the model has no pointer."""


@contextlib.contextmanager
def recorded_encodings(models: Sequence[Any]) -> Iterator[list[dict[str, list[Tensor]]]]:
    """Record the last output of each model's encoder while the context is open: one dict per model.

    A summary can then be explained without encoding its document again, whatever generator runs the models. Not
    thread-safe.
    """
    encodings: list[dict[str, list[Tensor]]] = [{} for _ in models]

    def keep(number: int, out: dict[str, list[Tensor]]) -> None:
        encodings[number] = {key: list(value) for key, value in out.items()}

    try:
        for number, model in enumerate(models):
            model.encoder.on_output = partial(keep, number)
        yield encodings
    finally:
        for model in models:
            model.encoder.on_output = None


@torch.no_grad()
def read_summaries(
    decoder: Any, tokens: Tensor, encoder_out: dict[str, list[Tensor]], eos: int, layer: int | None = None
) -> SummaryReading:
    """Compute the attention of each summary token with one teacher-forced pass over the finished summaries.

    The attention is the mean over heads and layers, whose rows sum to one. No single layer is known to be responsible
    for copying, so all of them are included.

    Args:
        decoder: a PyramidionDecoder, in evaluation mode.
        tokens: (B, t) summaries, right-padded, each ending in ``</s>``.
        encoder_out: output of the encoder for B documents.
        eos: id of ``</s>``, with which generation starts.
        layer: layer, counted from 1, whose attention to return instead of the mean over all layers.
    """
    previous = torch.cat([tokens.new_full((len(tokens), 1), eos), tokens[:, :-1]], dim=1)
    layers = list(decoder.layers) if layer is None else [decoder.layers[layer - 1]]
    heads = max(getattr(module.encoder_attn, "num_heads", 1) for module in layers)
    vectors = encoder_out["encoder_out"][0].size(0)
    rows = max(1, BUDGET // max(1, heads * previous.size(1) * vectors))
    parts: list[Tensor] = []
    copies: list[TokenCopies] = []
    for chosen in torch.arange(len(previous), device=previous.device).split(rows):
        with _attention_of(layers) as total:
            features, extra = decoder(previous[chosen], encoder_out=_select(encoder_out, chosen), features_only=True)
        parts.append(total.pop() / len(layers))
        if extra.get("pointer") is not None:
            copies += find_copies(decoder, features, extra["pointer"], tokens[chosen])
    return SummaryReading(torch.cat(parts), copies or None)


@contextlib.contextmanager
def _attention_of(layers: Sequence[Any]) -> Iterator[list[Tensor]]:
    """Sum the layers' (B, t, k) attention while the context is open, averaged over heads: a list of one tensor."""
    total: list[Tensor] = []

    def ask(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "need_attn": True}

    def collect(_: nn.Module, __: Any, output: Any) -> None:
        attention = output[1].to(torch.promote_types(output[1].dtype, torch.float32))
        if attention.dim() == 4:  # fairseq requests the heads of one layer separately
            attention = attention.mean(dim=0)
        total.append(attention if not total else total.pop() + attention)

    handles = [layer.register_forward_pre_hook(ask, with_kwargs=True) for layer in layers]
    handles += [layer.register_forward_hook(collect) for layer in layers]
    try:
        yield total
    finally:
        for handle in handles:
            handle.remove()


def _select(encoder_out: dict[str, list[Tensor]], rows: Tensor) -> dict[str, list[Tensor]]:
    """Select documents from the parts of the encoder's output that the decoder uses."""
    kept = ("encoder_padding_mask", POOLING_SLOTS, COPY_SOURCE, ADDED_SCORES)
    return {
        **{key: [] for key in encoder_out},
        "encoder_out": [x.index_select(1, rows) for x in encoder_out["encoder_out"]],
        **{key: [x.index_select(0, rows) for x in encoder_out.get(key, [])] for key in kept},
    }
