"""Names of tensors in fairseq, and in Hugging Face's RoBERTa, CamemBERT and XLM-R, which share theirs."""

from __future__ import annotations

import re
from typing import Mapping, NamedTuple

import torch
from torch import Tensor

from ...errors import PyramidionError
from .adapt import EMBEDDING, ENCODER, POSITIONS

#: Default name of the classification head in fairseq's tasks.
HEAD = "sentence_classification_head"
#: Hugging Face's prefix -> fairseq's below the encoder, outside layers.
_EMBEDDINGS = {
    "embeddings.word_embeddings.": "embed_tokens.",
    "embeddings.position_embeddings.": "embed_positions.",
    "embeddings.LayerNorm.": "layernorm_embedding.",
}
#: The same within a layer.
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
#: Tensors that classifiers do not use and fairseq does not have.
_LEFT_OUT = re.compile(r"pooler\.|embeddings\.position_ids$")


class Renamed(NamedTuple):
    """Result of :func:`from_hugging_face`."""

    state: dict[str, Tensor]
    """Tensors by fairseq's names."""
    left_out: list[str]
    """Names of tensors that fairseq does not have."""
    summed: bool
    """Whether the embedding of the token type was not zero and was added to all positions."""


def from_hugging_face(state: Mapping[str, Tensor]) -> Renamed:
    """Return tensors of a Hugging Face RoBERTa by fairseq's names.

    Values do not change, except that the embedding of the token type is added to positions.

    Args:
        state: state dict of ``RobertaModel``, ``RobertaForMaskedLM``, ``RobertaForSequenceClassification`` or their
            equivalents of CamemBERT and XLM-R.

    Raises:
        PyramidionError: there is no embedding, a tensor is unknown, there are several token types, or the output
            does not share the embedding's weights.
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
            f"cannot convert a model with {types.size(0)} types of tokens: fairseq's RoBERTa has one"
        )
    if types is not None and summed:
        positions = renamed[POSITIONS].clone()
        positions[2:] += types[0].to(positions.dtype)
        renamed[POSITIONS] = positions
    renamed[ENCODER + "version"] = torch.tensor([3.0])
    return Renamed(renamed, left_out, summed)


def _rename(name: str) -> str | None:
    """Return fairseq's name of a tensor, or None if fairseq has no such tensor."""
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
    """Drop the second copy of the output's bias, and refuse output weights that differ from the embedding."""
    bias = state.pop("encoder.lm_head.decoder.bias", None)
    kept = state.setdefault("encoder.lm_head.bias", bias) if bias is not None else None
    if bias is not None and kept is not None and not torch.equal(bias, kept):
        raise PyramidionError("lm_head.bias and lm_head.decoder.bias differ")
    if "encoder.lm_head.bias" in state:
        weight = state.setdefault("encoder.lm_head.weight", state[EMBEDDING])
        if weight.shape != state[EMBEDDING].shape or not torch.equal(weight, state[EMBEDDING]):
            raise PyramidionError(
                "the output of masked_lm does not share the embedding's weights: this is not supported"
            )


def of_today(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a fairseq checkpoint by current names; in 2019, these had decoder and emb_layer_norm."""
    renamed = {re.sub(r"^decoder\.", "encoder.", name): tensor for name, tensor in state.items()}
    renamed = {name.replace(".emb_layer_norm.", ".layernorm_embedding."): t for name, t in renamed.items()}
    renamed.setdefault(ENCODER + "version", torch.tensor([1.0]))
    return renamed


def to_export(state: Mapping[str, Tensor], head: str | None) -> dict[str, Tensor]:
    """Return tensors by the names of the exported model (``huggingface/modeling_pyramidion_roberta.py``).

    Args:
        state: by fairseq's names.
        head: the classification head to export; others are dropped.
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
    """Return tensors of an exported model by fairseq's names, the inverse of :func:`to_export`.

    The classification head gets fairseq's default name.
    """
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("encoder."):
            renamed[ENCODER + name[len("encoder.") :]] = tensor
        elif name.startswith("lm_head."):
            renamed["encoder." + name] = tensor
        elif name.startswith("classifier."):
            renamed[f"classification_heads.{HEAD}.{name[len('classifier.') :]}"] = tensor
        else:
            raise PyramidionError(f"{name} is not a tensor of an exported classifier")
    if EMBEDDING not in renamed:
        raise PyramidionError("the export has no encoder.embed_tokens.weight")
    renamed["encoder.lm_head.weight"] = renamed[EMBEDDING]
    renamed[ENCODER + "version"] = torch.tensor([3.0])
    return Renamed(renamed, [], False)
