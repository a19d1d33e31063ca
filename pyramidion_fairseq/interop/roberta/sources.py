"""Pretrained encoders to convert: a fairseq checkpoint, or a Hugging Face directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Mapping, NamedTuple

import torch
from torch import Tensor

from ... import class_labels, vocabularies
from ...checkpoints import DamagedCheckpointError, load_checkpoint
from ...errors import PyramidionError
from ...utils.files import read_json
from .. import byte_level
from ..bart.sources import read_weights
from ..state_changes import TensorChange
from ..subwords import find_subwords
from . import names, options, symbols
from .adapt import EMBEDDING, POSITIONS


class PretrainedEncoder(NamedTuple):
    """A pretrained encoder."""

    options: dict[str, Any]
    """Fields of EncoderConfig."""
    state: dict[str, Tensor]
    """Tensors by fairseq's names, on the CPU, in their saved dtype."""
    symbols: list[str]
    """Symbols of the dictionary, one per row of the embedding, starting with the four special ones."""
    bpe: byte_level.Bpe | Path | None
    """A byte-level BPE, or the file of a sentencepiece model; None if nothing was found."""
    labels: dict[str, list[str]]
    """Names of the classes of each head, if they are known."""
    regression: bool
    """Whether the head is for regression."""
    changes: list[TensorChange]
    """Changes of the tensors so far."""


def read_source(path: Path, dictionary: Path | None = None, bpe: Path | None = None) -> PretrainedEncoder:
    """Read a fairseq checkpoint (a file) or a Hugging Face model (a directory).

    Args:
        path: model.pt, or a directory with config.json and model.safetensors or pytorch_model.bin.
        dictionary: fairseq's dict.txt; by default the one next to model.pt, or built from the directory's vocabulary.
        bpe: a sentencepiece model, or a folder with one, or with encoder.json and vocab.bpe; by default the model's
            folder.

    Raises:
        PyramidionError: the model is not a RoBERTa, or something is missing or of another shape.
        OSError: a file cannot be read.
    """
    return _read_directory(path, dictionary, bpe) if path.is_dir() else _read_checkpoint(path, dictionary, bpe)


def _read_directory(path: Path, dictionary: Path | None, bpe: Path | None) -> PretrainedEncoder:
    config = read_json(path / "config.json")
    encoder_options = options.from_config(config)
    ours = "pyramidion" in config
    weights = read_weights(path)
    renamed = names.from_export(weights) if ours else names.from_hugging_face(weights)
    state, size = dict(renamed.state), renamed.state[EMBEDDING].size(0)
    if not state[EMBEDDING].numel():
        raise DamagedCheckpointError(f"{path} has an empty embedding")
    changes = []
    if renamed.left_out:
        text = f"left out {len(renamed.left_out)} tensors that classifiers do not read"
        changes.append(TensorChange(tuple(renamed.left_out), "left out", text))
    if renamed.summed:
        changes.append(TensorChange((POSITIONS,), "summed", "the embedding of the token type is added to positions"))
    if dictionary is not None or (ours and (path / "dict.txt").is_file()):
        rows = symbols.Rows(symbols.read_dictionary(dictionary or path / "dict.txt", size)[0], None, None)
    else:
        rows = symbols.read_rows(path, size, config.get("model_type") == "camembert")
    changes += reorder(state, rows.order)
    subwords = rows.bpe if bpe is None and rows.bpe else find_subwords(rows.symbols, bpe, [path], None, path)
    changes += _leave_out_head_of_several(state, config)
    changes += [] if ours else _leave_out_output(state, encoder_options)
    head = state.get(f"classification_heads.{names.HEAD}.out_proj.weight")
    classes = 0 if head is None else head.size(0)
    regression = _is_regression(config, classes)
    labels = {} if regression else _labels_of(config, classes)
    return PretrainedEncoder(encoder_options, state, rows.symbols, subwords, labels, regression, changes)


def _read_checkpoint(path: Path, dictionary: Path | None, bpe: Path | None) -> PretrainedEncoder:
    checkpoint = load_checkpoint(path)
    args = vocabularies.options_of(checkpoint, "model")
    if not isinstance(checkpoint.get("model"), dict) or not args:
        raise PyramidionError(f"{path} is not a checkpoint of fairseq, which has 'model', and 'args' or 'cfg'")
    state = names.of_today(checkpoint["model"])
    if state.get(EMBEDDING) is None:
        raise PyramidionError(f"{path} is not a RoBERTa: it has no {EMBEDDING}")
    encoder_options = options.from_fairseq(args)
    extra_state = checkpoint.get("extra_state")
    record = vocabularies.recorded(extra_state)
    place = dictionary or path.parent / "dict.txt"
    if record is not None and dictionary is None:
        rows, order = record["source"].split("\n"), None
    else:
        rows, order = symbols.read_dictionary(place, state[EMBEDDING].size(0))
        vocabularies.check_symbols(extra_state, rows, str(path), str(place), "give its own with --dictionary")
    changes = reorder(state, order)
    subwords = find_subwords(rows, bpe, [path.parent, *_data_folders(checkpoint)], extra_state, path)
    heads = sorted({name.split(".")[1] for name in state if name.startswith("classification_heads.")})
    labels = {head: class_labels.labels_of_checkpoint(extra_state, head) for head in heads}
    regression = bool(vocabularies.options_of(checkpoint, "criterion").get("regression_target"))
    known = {head: classes for head, classes in labels.items() if classes is not None}
    return PretrainedEncoder(encoder_options, state, rows, subwords, known, regression, changes)


def _data_folders(checkpoint: Mapping[str, Any]) -> list[Path]:
    data = vocabularies.options_of(checkpoint, "task").get("data")
    return [Path(data), Path(data).absolute().parent] if data else []


def _leave_out_head_of_several(state: dict[str, Tensor], config: Mapping[str, Any]) -> list[TensorChange]:
    """Drop a head for several labels or several numbers in place, because ours is for one."""
    head = state.get(f"classification_heads.{names.HEAD}.out_proj.weight")
    kind = config.get("problem_type")
    if kind == "regression" and head is not None and head.size(0) > 1:
        text = "left out the classification head: it gives a document several numbers, ours gives it one"
    elif kind == "multi_label_classification":
        text = "left out the classification head: it gives a document several labels, ours gives it one"
    else:
        return []
    heads = tuple(name for name in state if name.startswith("classification_heads."))
    for name in heads:
        del state[name]
    return [TensorChange(heads, "left out", text)] if heads else []


def _leave_out_output(state: dict[str, Tensor], options: Mapping[str, Any]) -> list[TensorChange]:
    """Drop the output for masked_lm in place if its activation, always gelu in transformers, is not the model's."""
    found = tuple(name for name in state if name.startswith("encoder.lm_head."))
    if not found or options["activation_fn"] == "gelu":
        return []
    for name in found:
        del state[name]
    text = f"left out the output for masked_lm: its activation is gelu, ours would be {options['activation_fn']}"
    return [TensorChange(found, "left out", text)]


def _is_regression(config: Mapping[str, Any], classes: int) -> bool:
    """Return whether the head is for regression: by config.json, or because it has a single output."""
    said = config.get("problem_type")
    return said == "regression" or (not said and classes == 1)


def _labels_of(config: Mapping[str, Any], classes: int) -> dict[str, list[str]]:
    """Return the names of the classes in config.json, if the head has as many; 0 classes means no head."""
    labels = config.get("id2label") or {}
    if not classes or not isinstance(labels, dict) or len(labels) != classes:
        return {}
    ordered = (str(labels.get(str(i), f"class {i}")) for i in range(classes))
    # A checkpoint stores a name per line, so line breaks become spaces.
    return {names.HEAD: [re.sub(r"[\r\n]+", " ", name).replace(" ", class_labels.SPACE) for name in ordered]}


def reorder(state: dict[str, Tensor], order: list[int] | None) -> list[TensorChange]:
    """Reorder the rows of the vocabulary in place: row i of the result was row ``order[i]``."""
    if order is None:
        return []
    wanted = (EMBEDDING, "encoder.lm_head.weight", "encoder.lm_head.bias")
    moved = tuple(name for name in wanted if name in state)
    index = torch.tensor(order)
    for name in moved:
        state[name] = state[name][index]
    count = sum(ours != theirs for ours, theirs in enumerate(order))
    return [
        TensorChange(moved, "moved", f"{count} rows of special symbols change places with those that nothing uses")
    ]
