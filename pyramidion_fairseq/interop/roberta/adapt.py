"""Adaptation of a checkpoint's tensors to a longer, sparse or pooled encoder, when it is loaded or converted."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from ..lengthen import spread_globals
from ..state_changes import TensorChange, add_scorers, fit_positions, log_changes, refuse

#: Prefix of the encoder's tensors.
ENCODER = "encoder.sentence_encoder."
EMBEDDING = ENCODER + "embed_tokens.weight"
POSITIONS = ENCODER + "embed_positions.weight"
_GLOBALS = ENCODER + "global_embeddings.weight"


def adapt_state(model: Any, state: dict[str, Tensor]) -> list[TensorChange]:
    """Adapt a state dict to a model's length, global tokens and scorers, in place.

    Positions are repeated or cut to the model's length. Missing global tokens and scorers are added, and unused ones
    are dropped. Joint projections of old checkpoints are split. No other tensor changes, so that loading remains
    strict. A checkpoint that fits is not changed.

    Args:
        model: the :class:`~pyramidion_fairseq.models.roberta.LSGRobertaModel` to load the tensors into.
        state: tensors by fairseq's current names.

    Returns:
        The changes, in order.

    Raises:
        PyramidionError: the vocabularies differ.
    """
    encoder = model.encoder.sentence_encoder
    _check_vocabulary(encoder, state)
    return log_changes(
        [
            *_split_projections(state),
            *_leave_out(encoder, state),
            *_new_globals(encoder, state),  # before positions are changed, as global tokens are made from the old ones
            *fit_positions(state, POSITIONS, encoder.embed_positions.weight.size(0), encoder.padding_idx + 1),
            *add_scorers(encoder, state, ENCODER),
        ]
    )


def _check_vocabulary(encoder: Any, state: dict[str, Tensor]) -> None:
    embedding, size = state.get(EMBEDDING), len(encoder.dictionary)
    if embedding is not None and embedding.size(0) != size:
        refuse(
            f"the checkpoint has {embedding.size(0):,} symbols, the data's dictionary {size:,}, including <mask>: "
            "prepare the data with the checkpoint's dictionary (fairseq-preprocess --srcdict)"
        )


def _split_projections(state: dict[str, Tensor]) -> list[TensorChange]:
    """Split joint projections of queries, keys and values (in this order), as in checkpoints of 2019."""
    joined = [name for name in state if re.search(r"\.self_attn\.in_proj_(weight|bias)$", name)]
    made = []
    for name in joined:
        start, kind = name.rsplit("in_proj_", 1)
        for part, tensor in zip("qkv", state.pop(name).chunk(3)):
            made.append(f"{start}{part}_proj.{kind}")
            state[made[-1]] = tensor
    text = f"split {len(joined)} joint projections of queries, keys and values"
    return [TensorChange(tuple(made), "copied", text)] if made else []


def _leave_out(encoder: Any, state: dict[str, Tensor]) -> list[TensorChange]:
    """Drop the checkpoint's global tokens and scorers that the model does not have."""
    scored = {layer for layer, pooling in encoder.poolings.items() if pooling.scorer is not None}
    unused = [name for name in state if name == _GLOBALS and not encoder.num_globals]
    for name in state:
        found = re.match(re.escape(ENCODER) + r"poolings\.(\d+)\.", name)
        if found and found[1] not in scored:
            unused.append(name)
    for name in unused:
        del state[name]
    text = f"left out {len(unused)} tensors of global tokens and scorers that this model does not have"
    return [TensorChange(tuple(unused), "left out", text)] if unused else []


def _new_globals(encoder: Any, state: dict[str, Tensor]) -> list[TensorChange]:
    tokens, positions = state.get(EMBEDDING), state.get(POSITIONS)
    if not encoder.num_globals or _GLOBALS in state or tokens is None or positions is None:
        return []
    dictionary = encoder.dictionary
    mask = tokens[dictionary.index("<mask>")]
    state[_GLOBALS] = spread_globals(positions[encoder.padding_idx + 1 :], tokens[dictionary.bos()], mask)
    return [TensorChange((_GLOBALS,), "new", "new global tokens, of spread positions, <s> and <mask>")]
