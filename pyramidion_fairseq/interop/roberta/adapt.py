"""A checkpoint's tensors made to fit an encoder that is longer, sparser or pooled: at load time and in conversion."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from ..lengthen import spread_globals
from ..state_changes import Change, add_scorers, fit_positions, log_changes, refuse

#: What names of the encoder's tensors start with.
ENCODER = "encoder.sentence_encoder."
EMBEDDING = ENCODER + "embed_tokens.weight"
POSITIONS = ENCODER + "embed_positions.weight"
_GLOBALS = ENCODER + "global_embeddings.weight"


def adapt_state(model: Any, state: dict[str, Tensor]) -> list[Change]:
    """Make a state dict fit a model, in place, where that is a matter of length, global tokens or scorers.

    Positions are repeated or cut to the model's length; global tokens and scorers that the checkpoint lacks are made;
    those that the model has no use for go. Projections that old checkpoints hold in one tensor are split. Everything
    else stays as it is, so that loading remains strict about it. A checkpoint that fits is not changed.

    Args:
        model: an :class:`~pyramidion_fairseq.models.roberta.LSGRobertaModel` that the tensors are for.
        state: by fairseq's names of today.

    Returns:
        What was done, in order.

    Raises:
        PyramidionError: the vocabularies differ.
    """
    encoder = model.encoder.sentence_encoder
    _check_vocabulary(encoder, state)
    return log_changes(
        [
            *_split_projections(state),
            *_leave_out(encoder, state),
            *_new_globals(encoder, state),  # before positions: they are made of the old ones
            *fit_positions(state, POSITIONS, encoder.embed_positions.weight.size(0), encoder.padding_idx + 1),
            *add_scorers(encoder, state, ENCODER),
        ]
    )


def _check_vocabulary(encoder: Any, state: dict[str, Tensor]) -> None:
    embedding, size = state.get(EMBEDDING), len(encoder.dictionary)
    if embedding is not None and embedding.size(0) != size:
        refuse(
            f"the checkpoint has {embedding.size(0):,} symbols, the data's dictionary {size:,}, <mask> counted: "
            "prepare the data with the checkpoint's dictionary (fairseq-preprocess --srcdict)"
        )


def _split_projections(state: dict[str, Tensor]) -> list[Change]:
    """Split what checkpoints of 2019 hold in one tensor: queries, keys and values, in this order."""
    joined = [name for name in state if re.search(r"\.self_attn\.in_proj_(weight|bias)$", name)]
    made = []
    for name in joined:
        start, kind = name.rsplit("in_proj_", 1)
        for part, tensor in zip("qkv", state.pop(name).chunk(3)):
            made.append(f"{start}{part}_proj.{kind}")
            state[made[-1]] = tensor
    text = f"split {len(joined)} joint projections of queries, keys and values"
    return [Change(tuple(made), "copied", text)] if made else []


def _leave_out(encoder: Any, state: dict[str, Tensor]) -> list[Change]:
    """Leave out global tokens and scorers of a model that had some, where this one has none."""
    scored = {layer for layer, pooling in encoder.poolings.items() if pooling.scorer is not None}
    unused = [name for name in state if name == _GLOBALS and not encoder.num_globals]
    for name in state:
        found = re.match(re.escape(ENCODER) + r"poolings\.(\d+)\.", name)
        if found and found[1] not in scored:
            unused.append(name)
    for name in unused:
        del state[name]
    text = f"left out {len(unused)} tensors of global tokens and scorers that this model has not"
    return [Change(tuple(unused), "left out", text)] if unused else []


def _new_globals(encoder: Any, state: dict[str, Tensor]) -> list[Change]:
    tokens, positions = state.get(EMBEDDING), state.get(POSITIONS)
    if not encoder.num_globals or _GLOBALS in state or tokens is None or positions is None:
        return []
    dictionary = encoder.dictionary
    mask = tokens[dictionary.index("<mask>")]
    state[_GLOBALS] = spread_globals(positions[encoder.padding_idx + 1 :], tokens[dictionary.bos()], mask)
    return [Change((_GLOBALS,), "new", "new global tokens, of spread positions, <s> and <mask>")]
