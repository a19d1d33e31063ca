"""Adaptation of a checkpoint's tensors to a longer, sparse or pooled model, when it is loaded or converted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..lengthen import spread_globals
from ..state_changes import TensorChange, add_scorers, add_tensors, fit_positions, log_changes, refuse

_GLOBALS = "encoder.global_embeddings.weight"
_EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight")
_HEADS = "classification_heads."
_POINTER = "decoder.pointer."


def adapt_state(model: Any, state: dict[str, Tensor]) -> list[TensorChange]:
    """Adapt a state dict to a model in place.

    Positions are repeated or truncated to the model's length. Missing global tokens and scorers are created from the
    checkpoint's parameters (``interop.lengthen``), and a missing pointer is initialised as in a new model. The row of
    ``<mask>`` is dropped if the dictionary does not have it, as in fairseq's BART, and so are classification heads.
    Nothing else is changed, so that loading remains strict. A checkpoint that fits is not changed.

    Args:
        model: the :class:`~pyramidion_fairseq.models.PyramidionModel` that will load the tensors.
        state: tensors by fairseq's names.

    Returns:
        The changes, in order.

    Raises:
        PyramidionError: the vocabularies differ, or the checkpoint has a pointer but the model does not.
    """
    return log_changes(
        [
            *_leave_out_heads(state),
            *_new_globals(model, state),  # first, because they are made from the old positions and <mask>
            *_fit_vocabulary(model, state),
            *_fit_positions(model, state),
            *add_scorers(model.encoder, state, "encoder."),
            *_new_pointer(model, state),
        ]
    )


def _leave_out_heads(state: dict[str, Tensor]) -> list[TensorChange]:
    heads = tuple(name for name in state if name.startswith(_HEADS))
    for name in heads:
        del state[name]
    return [TensorChange(heads, "left out", f"left out {len(heads)} tensors of classification heads")] if heads else []


def _fit_vocabulary(model: Any, state: dict[str, Tensor]) -> list[TensorChange]:
    dictionary, embedding = model.encoder.dictionary, state.get(_EMBEDDINGS[0])
    if embedding is None or embedding.size(0) == len(dictionary):
        return []
    if embedding.size(0) != len(dictionary) + 1 or "<mask>" in dictionary:
        refuse(
            f"the checkpoint has {embedding.size(0):,} symbols, the data's dictionary {len(dictionary):,}: prepare "
            "the data with the checkpoint's dictionary (fairseq-preprocess --srcdict)"
        )
    names = tuple(name for name in (*_EMBEDDINGS, "encoder.output_projection.weight") if name in state)
    for name in names:
        state[name] = state[name][:-1]
    return [TensorChange(names, "cut", "the dictionary has no <mask>: its row of the embedding is left out")]


def _new_globals(model: Any, state: dict[str, Tensor]) -> list[TensorChange]:
    tokens, positions = state.get(_EMBEDDINGS[0]), state.get("encoder.embed_positions.weight")
    dictionary, offset = model.encoder.dictionary, model.encoder.padding_idx + 1
    if positions is None and model.encoder.cfg.options.pegasus_positions and tokens is not None:
        positions, offset = model.encoder.embed_positions.first_positions(1024).to(tokens.dtype), 0
    if not model.encoder.num_globals or _GLOBALS in state or tokens is None or positions is None:
        return []
    if "<mask>" in dictionary:
        source, mask = "<mask>", tokens[dictionary.index("<mask>")]
    elif tokens.size(0) == len(dictionary) + 1:  # its row will be dropped
        source, mask = "<mask>", tokens[-1]
    else:
        source, mask = "the mean embedding", tokens.mean(dim=0, dtype=torch.float32).to(tokens.dtype)
    scale = model.encoder.embed_scale
    state[_GLOBALS] = spread_globals(positions[offset:], scale * tokens[dictionary.bos()], scale * mask)
    return [TensorChange((_GLOBALS,), "new", f"new global tokens, of spread positions, <s> and {source}")]


def _fit_positions(model: Any, state: dict[str, Tensor]) -> list[TensorChange]:
    changes = []
    for name, side in (("encoder", model.encoder), ("decoder", model.decoder)):
        wanted = getattr(side.embed_positions, "weight", None)
        if wanted is not None:
            changes += fit_positions(state, f"{name}.embed_positions.weight", wanted.size(0), side.padding_idx + 1)
    return changes


def _new_pointer(model: Any, state: dict[str, Tensor]) -> list[TensorChange]:
    known = any(name.startswith(_POINTER) for name in state)
    if known and model.decoder.pointer is None:
        refuse(
            "the checkpoint has a pointer, but this model does not: use --pointer, or an --arch that ends in _pointer"
        )
    if known or model.decoder.pointer is None or not state:
        return []
    names = add_tensors(state, _POINTER, model.decoder.pointer)
    return [TensorChange(names, "new", "new gate of the pointer: the checkpoint has none, it is to be trained")]
