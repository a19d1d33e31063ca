"""A checkpoint's tensors made to fit a model that is longer, sparser or pooled: at load time and in conversion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..lengthen import spread_globals
from ..state_changes import Change, add_scorers, add_tensors, fit_positions, log_changes, refuse

_GLOBALS = "encoder.global_embeddings.weight"
_EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight")
_HEADS = "classification_heads."
_POINTER = "decoder.pointer."


def adapt_state(model: Any, state: dict[str, Tensor]) -> list[Change]:
    """Make a state dict fit a model, in place, where that is a matter of length, global tokens, scorers or a pointer.

    Positions are repeated or cut to the model's length; global tokens and scorers that the checkpoint lacks are made
    (see ``interop.lengthen``); a pointer that it lacks starts as in a new model; the row of ``<mask>`` goes where the
    dictionary has none, as in fairseq's BART; classification heads go. Everything else stays as it is, so that loading
    remains strict about it. A checkpoint that fits is not changed.

    Args:
        model: a :class:`~pyramidion_fairseq.models.PyramidionModel` that the tensors are for.
        state: by fairseq's names.

    Returns:
        What was done, in order.

    Raises:
        PyramidionError: the vocabularies differ, or the checkpoint has a pointer and the model has none.
    """
    return log_changes(
        [
            *_leave_out_heads(state),
            *_new_globals(model, state),  # first: they are made of the old positions and of <mask>
            *_fit_vocabulary(model, state),
            *_fit_positions(model, state),
            *add_scorers(model.encoder, state, "encoder."),
            *_new_pointer(model, state),
        ]
    )


def _leave_out_heads(state: dict[str, Tensor]) -> list[Change]:
    heads = tuple(name for name in state if name.startswith(_HEADS))
    for name in heads:
        del state[name]
    return [Change(heads, "left out", f"left out {len(heads)} tensors of classification heads")] if heads else []


def _fit_vocabulary(model: Any, state: dict[str, Tensor]) -> list[Change]:
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
    return [Change(names, "cut", "the dictionary has no <mask>: its row of the embedding is left out")]


def _new_globals(model: Any, state: dict[str, Tensor]) -> list[Change]:
    tokens, positions = state.get(_EMBEDDINGS[0]), state.get("encoder.embed_positions.weight")
    dictionary, offset = model.encoder.dictionary, model.encoder.padding_idx + 1
    if positions is None and model.encoder.cfg.options.pegasus_positions and tokens is not None:
        positions, offset = model.encoder.embed_positions.first_positions(1024).to(tokens.dtype), 0
    if not model.encoder.num_globals or _GLOBALS in state or tokens is None or positions is None:
        return []
    if "<mask>" in dictionary:
        source, mask = "<mask>", tokens[dictionary.index("<mask>")]
    elif tokens.size(0) == len(dictionary) + 1:  # its row is about to go
        source, mask = "<mask>", tokens[-1]
    else:
        source, mask = "the mean embedding", tokens.mean(dim=0, dtype=torch.float32).to(tokens.dtype)
    scale = model.encoder.embed_scale
    state[_GLOBALS] = spread_globals(positions[offset:], scale * tokens[dictionary.bos()], scale * mask)
    return [Change((_GLOBALS,), "new", f"new global tokens, of spread positions, <s> and {source}")]


def _fit_positions(model: Any, state: dict[str, Tensor]) -> list[Change]:
    changes = []
    for name, side in (("encoder", model.encoder), ("decoder", model.decoder)):
        wanted = getattr(side.embed_positions, "weight", None)
        if wanted is not None:
            changes += fit_positions(state, f"{name}.embed_positions.weight", wanted.size(0), side.padding_idx + 1)
    return changes


def _new_pointer(model: Any, state: dict[str, Tensor]) -> list[Change]:
    known = any(name.startswith(_POINTER) for name in state)
    if known and model.decoder.pointer is None:
        refuse(
            "the checkpoint copies words from the document, and this model does not: give it --pointer, or an --arch "
            "that ends in _pointer"
        )
    if known or model.decoder.pointer is None or not state:
        return []
    names = add_tensors(state, _POINTER, model.decoder.pointer)
    return [Change(names, "new", "new gate of the pointer: the checkpoint has none, it is to be trained")]
