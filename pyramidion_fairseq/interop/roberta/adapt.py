"""A checkpoint's tensors made to fit an encoder that is longer, sparser or pooled: at load time and in conversion."""

from __future__ import annotations

import logging
import re
from typing import Any, NoReturn

import torch
from torch import Tensor

from ...errors import PyramidionError
from ..bart.adapt import Change
from ..bart.lengthen import spread_globals, spread_scorer, tile_positions

logger = logging.getLogger(__name__)

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
    changes = [
        *_split_projections(state),
        *_leave_out(encoder, state),
        *_new_globals(encoder, state),  # before positions: they are made of the old ones
        *_fit_positions(encoder, state),
        *_new_scorers(encoder, state),
    ]
    for change in changes:
        logger.info(change.text)
    return changes


def _check_vocabulary(encoder: Any, state: dict[str, Tensor]) -> None:
    embedding, size = state.get(EMBEDDING), len(encoder.dictionary)
    if embedding is not None and embedding.size(0) != size:
        _refuse(
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


def _fit_positions(encoder: Any, state: dict[str, Tensor]) -> list[Change]:
    rows, offset = encoder.embed_positions.weight.size(0), encoder.padding_idx + 1
    if POSITIONS not in state or state[POSITIONS].size(0) == rows:
        return []
    before, after = state[POSITIONS].size(0) - offset, rows - offset
    state[POSITIONS] = tile_positions(state[POSITIONS], rows, offset)
    kind, verb = ("tiled", "repeated") if after > before else ("cut", "cut")
    return [Change((POSITIONS,), kind, f"{POSITIONS}: {before:,} positions {verb} to {after:,}")]


def _new_scorers(encoder: Any, state: dict[str, Tensor]) -> list[Change]:
    changes = []
    for layer, pooling in encoder.poolings.items():
        prefix = f"{ENCODER}poolings.{layer}.scorer."
        known = any(name.startswith(prefix) for name in state)
        if not state or known or pooling.scorer is None or not list(pooling.scorer.parameters()):
            continue
        norm = f"{ENCODER}layers.{int(layer) - 1}.final_layer_norm."
        if hasattr(pooling.scorer, "proj") and not encoder.cfg.encoder.normalize_before and norm + "weight" in state:
            spread_scorer(pooling.scorer, state[norm + "weight"], state[norm + "bias"])
        dtype = next(iter(state.values())).dtype
        dtype = dtype if dtype.is_floating_point else torch.float32
        made = {prefix + name: value.detach().to(dtype) for name, value in pooling.scorer.state_dict().items()}
        state.update(made)
        changes.append(Change(tuple(made), "new", f"new scorer of the pooling after layer {layer}"))
    return changes


def _refuse(message: str) -> NoReturn:
    logger.error(message)  # fairseq's trainer hides the exception's own words
    raise PyramidionError(message)
