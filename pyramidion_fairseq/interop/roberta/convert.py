"""Conversion of a pretrained RoBERTa to a checkpoint with its dictionary and BPE (``pyramidion-convert roberta``)."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any, Mapping

import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from torch import Tensor

from ... import class_labels, vocabularies
from ...checkpoints import new_checkpoint
from ...compat import plain_options
from ...errors import PyramidionError
from ...models.encoder_config import FIELDS, complete_encoder
from ...models.roberta import LSGRobertaModel
from ...text.byte_level import is_byte_level
from .. import dictionary_files
from ..bart.convert import Converted, check_tensors, write_folder
from ..state_changes import TensorChange
from .adapt import EMBEDDING, adapt_state
from .names import HEAD
from .options import SHAPE
from .sources import PretrainedEncoder

#: Default of --max-positions, in tokens.
LONG = 4096


def convert(source: PretrainedEncoder, changes: Mapping[str, Any]) -> Converted:
    """Convert a pretrained encoder.

    Args:
        source: the model.
        changes: fields of EncoderConfig to set, such as length, attention and poolings.

    Raises:
        PyramidionError: a field is determined by the weights and cannot be set, options contradict each other, or a
            tensor is missing, unknown or of a wrong shape.
    """
    for name in SHAPE:
        if changes.get(name, source.options.get(name)) != source.options.get(name):
            raise PyramidionError(
                f"{name} of the pretrained model is {source.options.get(name)!r}, and cannot become {changes[name]!r}"
            )
    if changes.get("attention", "lsg") == "lsh" and source.options.get("attention") != "lsh":
        raise PyramidionError(
            "--attention lsh shares queries and keys, so the pretrained model's projections cannot be used"
        )
    chosen = vars(complete_encoder(Namespace(**{**source.options, **changes})))
    options = {name: chosen[name] for name in FIELDS}
    try:
        plain_options.check_options(options, source.state)  # before a model of that size is built
    except plain_options.UnusableOptionError as error:
        raise PyramidionError(str(error)) from None
    torch.manual_seed(1)
    task = Namespace(source_dictionary=dictionary_files.make_dictionary(source.symbols))
    model = LSGRobertaModel.build_model(Namespace(**{**options, "load_checkpoint_heads": True}), task).eval()
    state = dict(source.state)
    done = [*source.changes, *adapt_state(model, state), *_new_output(model, state)]
    _register_heads(model, state)
    check_tensors(model, state)
    changed = {name for change in done for name in change.names if change.kind != "copied"}
    copied = [name for name in state if name not in changed]
    return Converted(_make_checkpoint(options, state, source), done, copied)


def _new_output(model: LSGRobertaModel, state: dict[str, Tensor]) -> list[TensorChange]:
    """Add the output layer for masked_lm, randomly initialised, if the model has none, as classifiers."""
    prefix = "encoder.lm_head."
    if prefix + "bias" in state:
        state.setdefault(prefix + "weight", state[EMBEDDING])
        return []
    dtype = state[EMBEDDING].dtype
    made = {prefix + n: t.detach().to(dtype) for n, t in model.encoder.lm_head.state_dict().items() if n != "weight"}
    state.update(made)
    state[prefix + "weight"] = state[EMBEDDING]
    return [TensorChange(tuple(made), "new", "new output for masked_lm, to be trained, because the model has none")]


def _register_heads(model: LSGRobertaModel, state: Mapping[str, Tensor]) -> None:
    for name in sorted(state):
        parts = name.split(".")
        if parts[0] == "classification_heads" and name.endswith("out_proj.weight"):
            dense = state.get(f"classification_heads.{parts[1]}.dense.weight")
            if dense is None:
                raise PyramidionError(f"the head {parts[1]} has no dense layer, unlike those of fairseq's RoBERTa")
            model.register_classification_head(parts[1], state[name].size(0), dense.size(0))


def _make_checkpoint(
    options: Mapping[str, Any], state: dict[str, Tensor], source: PretrainedEncoder
) -> dict[str, Any]:
    """Return a checkpoint with its dictionary and labels, for ``--restore-file`` and ``pyramidion-classify``."""
    heads = sorted({name.split(".")[1] for name in state if name.startswith("classification_heads.")})
    head = HEAD if HEAD in heads or not heads else heads[0]
    weight = state.get(f"classification_heads.{head}.out_proj.weight")
    task: dict[str, Any] = {"task": "sentence_prediction", "init_token": 0, "separator_token": 2, "data": ""}
    task.update(classification_head_name=head, num_classes=-1 if weight is None else weight.size(0))
    task.update(criterion="sentence_prediction", regression_target=source.regression)
    pieces = isinstance(source.bpe, Path)
    bpe = "gpt2" if is_byte_level(dictionary_files.make_dictionary(source.symbols)) else None
    cfg = convert_namespace_to_omegaconf(Namespace(arch="lsg_roberta", bpe=bpe, **task, **options))
    container = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    digest = vocabularies.digest(str(source.bpe)) if pieces else None
    described = vocabularies.describe(source.symbols, source.symbols, digest)
    labels = {
        name: text
        for n, found in source.labels.items()
        for name, text in class_labels.for_checkpoint(found, n).items()
    }
    return new_checkpoint(container, state, {vocabularies.KEY: described, class_labels.KEY: labels})


def write(converted: Converted, source: PretrainedEncoder, folder: Path) -> None:
    """Write model.pt, dict.txt, BPE files and conversion.json, the record of all changes, to a new folder.

    Raises:
        PyramidionError, OSError: as :func:`~pyramidion_fairseq.interop.bart.convert.write_folder`.
    """
    # If <mask> has the last row, fairseq's tasks add it themselves.
    written = source.symbols[:-1] if source.symbols[-1] == "<mask>" else source.symbols
    write_folder(converted, {"dict.txt": written}, source.bpe, folder)
