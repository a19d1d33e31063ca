"""The decoder's cross-attention over a finished summary, taken apart from beam search."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any, Iterator, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from ...generation.encoder_output import ADDED_SCORES, COPY_SOURCE, POOLING_SLOTS
from .copies import TokenCopies, find_copies

#: Numbers in the attention of all heads of one layer that are computed at once.
BUDGET = 1 << 24


class SummaryReading(NamedTuple):
    """What the decoder took from B documents for their summaries of t tokens."""

    attention: Tensor
    """(B, t, k) float32 at least, rows over the encoder's k vectors; those of padding mean nothing."""
    copies: list[TokenCopies] | None
    """One per document; None where the model has no pointer."""


@contextlib.contextmanager
def recorded_encodings(models: Sequence[Any]) -> Iterator[list[dict[str, list[Tensor]]]]:
    """Collect, while open, what each model's encoder last returned: one dict per model.

    So that a summary can be explained without encoding its document again, whatever generator runs the models. Not
    for several threads at once.
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


def cross_attention(
    decoder: Any, tokens: Tensor, encoder_out: dict[str, list[Tensor]], eos: int, layer: int | None = None
) -> Tensor:
    """Return the attention of :func:`read_summaries`."""
    return read_summaries(decoder, tokens, encoder_out, eos, layer).attention


@torch.no_grad()
def read_summaries(
    decoder: Any, tokens: Tensor, encoder_out: dict[str, list[Tensor]], eos: int, layer: int | None = None
) -> SummaryReading:
    """Return what each summary token read when it was generated: one teacher-forced pass over the finished summaries.

    The attention is the mean over heads and layers. Every layer reads the encoder's vectors afresh and adds what it
    finds, and none is known to be the one that copies; the mean leaves none out, and its rows still sum to one.

    Args:
        decoder: a PyramidionDecoder, in evaluation mode.
        tokens: (B, t) summaries, right-padded, the last token of each being ``</s>``.
        encoder_out: of B documents, as the encoder returned it.
        eos: id of ``</s>``, with which generation starts.
        layer: the attention of this layer alone, counted from 1, instead of the mean over all.
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
    """Sum up the (B, t, k) attention, averaged over heads, of layers that run meanwhile: a list of one tensor."""
    total: list[Tensor] = []

    def ask(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "need_attn": True}

    def collect(_: nn.Module, __: Any, output: Any) -> None:
        attention = output[1].to(torch.promote_types(output[1].dtype, torch.float32))
        if attention.dim() == 4:  # fairseq asks one layer for each of its heads
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
    """Return the decoder's part of some documents' encodings."""
    kept = ("encoder_padding_mask", POOLING_SLOTS, COPY_SOURCE, ADDED_SCORES)
    return {
        **{key: [] for key in encoder_out},
        "encoder_out": [x.index_select(1, rows) for x in encoder_out["encoder_out"]],
        **{key: [x.index_select(0, rows) for x in encoder_out.get(key, [])] for key in kept},
    }
