"""Names of RoBERTa's tensors: fairseq's, and Hugging Face's of RoBERTa, CamemBERT and XLM-R, which share theirs."""

from __future__ import annotations

import re
from typing import Mapping, NamedTuple

import torch
from torch import Tensor

from ...errors import PyramidionError
from .adapt import EMBEDDING, ENCODER, POSITIONS

#: The classification head that fairseq's task has unless another name is given.
HEAD = "sentence_classification_head"
#: Hugging Face's name of a part -> fairseq's, below the encoder; layers apart.
_EMBEDDINGS = {
    "embeddings.word_embeddings.": "embed_tokens.",
    "embeddings.position_embeddings.": "embed_positions.",
    "embeddings.LayerNorm.": "layernorm_embedding.",
}
#: The same of one layer.
_LAYER = {
    "attention.self.query.": "self_attn.q_proj.",
    "attention.self.key.": "self_attn.k_proj.",
    "attention.self.value.": "self_attn.v_proj.",
    "attention.output.dense.": "self_attn.out_proj.",
    "attention.output.LayerNorm.": "self_attn_layer_norm.",
    "intermediate.dense.": "fc1.",
    "output.dense.": "fc2.",
    "output.LayerNorm.": "final_layer_norm.",
}
_TYPES = "embeddings.token_type_embeddings.weight"
#: What a classifier does not read, and fairseq has not.
_LEFT_OUT = re.compile(r"pooler\.|embeddings\.position_ids$")


class Renamed(NamedTuple):
    """What :func:`from_hugging_face` returns."""

    state: dict[str, Tensor]
    """By fairseq's names."""
    left_out: list[str]
    """Tensors that fairseq has not."""
    summed: bool
    """Whether the embedding of the one token type was added to every position: it was not zero."""


def from_hugging_face(state: Mapping[str, Tensor]) -> Renamed:
    """Return tensors of a Hugging Face RoBERTa by fairseq's names.

    Args:
        state: of ``RobertaModel``, ``RobertaForMaskedLM``, ``RobertaForSequenceClassification`` or the same of
            CamemBERT and XLM-R. Values are untouched but for the embedding of the token type.

    Raises:
        PyramidionError: there is no embedding, a tensor is unknown, or the output's weights are not the embedding's.
    """
    renamed: dict[str, Tensor] = {}
    left_out, unknown = [], []
    short = {re.sub(r"^(roberta|camembert|xlm_roberta)\.", "", name): tensor for name, tensor in state.items()}
    types = short.pop(_TYPES, None)
    for name, tensor in short.items():
        ours = _rename(name)
        if ours:
            renamed[ours] = tensor
        elif _LEFT_OUT.match(name):
            left_out.append(name)
        else:
            unknown.append(name)
    if EMBEDDING not in renamed or POSITIONS not in renamed:
        raise PyramidionError(
            "not a RoBERTa: it has no embeddings.word_embeddings or no embeddings.position_embeddings"
        )
    if unknown:
        more = f", and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise PyramidionError(f"not a RoBERTa: {', '.join(unknown[:3])}{more} is unknown")
    _check_output(renamed)
    summed = types is not None and bool(types.any())
    if types is not None and types.size(0) != 1:
        raise PyramidionError(
            f"the model tells {types.size(0)} types of tokens apart, which fairseq's RoBERTa does not"
        )
    if types is not None and summed:
        positions = renamed[POSITIONS].clone()
        positions[2:] += types[0].to(positions.dtype)
        renamed[POSITIONS] = positions
    renamed[ENCODER + "version"] = torch.tensor([3.0])
    return Renamed(renamed, left_out, summed)


def _rename(name: str) -> str | None:
    """Return fairseq's name of a tensor; None where it has none."""
    for theirs, ours in _EMBEDDINGS.items():
        if name.startswith(theirs):
            return ENCODER + ours + name[len(theirs) :]
    layer = re.match(r"encoder\.layer\.(\d+)\.(.*)$", name)
    if layer:
        for theirs, ours in _LAYER.items():
            if layer[2].startswith(theirs):
                return f"{ENCODER}layers.{layer[1]}.{ours}{layer[2][len(theirs) :]}"
    if name.startswith("classifier."):
        return f"classification_heads.{HEAD}.{name[len('classifier.') :]}"
    output = {"lm_head.decoder.weight": "lm_head.weight", "lm_head.decoder.bias": "lm_head.decoder.bias"}
    if name.startswith("lm_head."):
        return "encoder." + output.get(name, name)
    return None


def _check_output(state: dict[str, Tensor]) -> None:
    """Drop the second copy of the output's bias; refuse output weights that are not the embedding's."""
    bias = state.pop("encoder.lm_head.decoder.bias", None)
    kept = state.setdefault("encoder.lm_head.bias", bias) if bias is not None else None
    if bias is not None and kept is not None and not torch.equal(bias, kept):
        raise PyramidionError("lm_head.bias and lm_head.decoder.bias differ")
    if "encoder.lm_head.bias" in state:
        weight = state.setdefault("encoder.lm_head.weight", state[EMBEDDING])
        if weight.shape != state[EMBEDDING].shape or not torch.equal(weight, state[EMBEDDING]):
            raise PyramidionError("the output of masked_lm has weights of its own: only shared ones can be used")


def of_today(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a fairseq checkpoint by the names of today: those of 2019 say decoder and emb_layer_norm."""
    renamed = {re.sub(r"^decoder\.", "encoder.", name): tensor for name, tensor in state.items()}
    renamed = {name.replace(".emb_layer_norm.", ".layernorm_embedding."): t for name, t in renamed.items()}
    renamed.setdefault(ENCODER + "version", torch.tensor([1.0]))
    return renamed


def to_export(state: Mapping[str, Tensor], head: str | None) -> dict[str, Tensor]:
    """Return tensors by the names of the exported model (``huggingface/modeling_pyramidion_roberta.py``).

    Args:
        state: by fairseq's names.
        head: the classification head to take; others are left out.
    """
    renamed = {}
    for name, tensor in state.items():
        if name.startswith(ENCODER):
            renamed["encoder." + name[len(ENCODER) :]] = tensor
        elif name.startswith("encoder.lm_head.") and name != "encoder.lm_head.weight":
            renamed[name[len("encoder.") :]] = tensor
        elif head is not None and name.startswith(f"classification_heads.{head}."):
            renamed["classifier." + name[len(f"classification_heads.{head}.") :]] = tensor
    renamed.pop("encoder.version", None)
    return renamed


def from_export(state: Mapping[str, Tensor]) -> Renamed:
    """Return the inverse of :func:`to_export`; the head has fairseq's usual name."""
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("encoder."):
            renamed[ENCODER + name[len("encoder.") :]] = tensor
        elif name.startswith("lm_head."):
            renamed["encoder." + name] = tensor
        elif name.startswith("classifier."):
            renamed[f"classification_heads.{HEAD}.{name[len('classifier.') :]}"] = tensor
        else:
            raise PyramidionError(f"{name} is no tensor of an exported classifier")
    if EMBEDDING not in renamed:
        raise PyramidionError("the export has no encoder.embed_tokens.weight")
    renamed["encoder.lm_head.weight"] = renamed[EMBEDDING]
    renamed[ENCODER + "version"] = torch.tensor([3.0])
    return Renamed(renamed, [], False)
