"""Conversion of a pretrained model to a checkpoint with dictionary and BPE (``pyramidion-convert bart``, ...)."""

from __future__ import annotations

import json
import logging
import os
import shutil
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any, Mapping, NamedTuple

import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from torch import Tensor

from ... import pretrained, vocabularies
from ...checkpoints import new_checkpoint, save_checkpoint
from ...compat import plain_options
from ...config import PyramidionConfig, complete
from ...errors import PyramidionError
from ...markers import Markers, markers_of
from ...models import PyramidionModel
from ...schedule import PoolingSchedule
from ...text.byte_level import is_byte_level
from ...utils.files import check_empty, complete_folder
from .. import byte_level, dictionary_files
from ..state_changes import TensorChange
from .adapt import adapt_state
from .options import SHAPE
from .sources import PretrainedSummarizer

logger = logging.getLogger(__name__)

#: File with the arguments with which ``fairseq-train`` builds the model.
ARGUMENTS = "arguments.txt"


class Converted(NamedTuple):
    """Result of :func:`convert`."""

    checkpoint: dict[str, Any]
    """A checkpoint with "model" and "cfg", as fairseq saves it."""
    changes: list[TensorChange]
    """Differences from the pretrained model."""
    copied: list[str]
    """Names of the tensors that were copied bit for bit."""


def last_layers(lengths: list[int], layers: int) -> str:
    """Return the schedule that pools to ``lengths`` after the last encoder layers.

    [2048, 512], 12 -> "11:2048,12:512".

    Raises:
        PyramidionError: there are more lengths than layers, or they do not descend.
    """
    first = layers - len(lengths) + 1
    if first < 1:
        raise PyramidionError(f"--pool-lengths has {len(lengths)} lengths, but the encoder has {layers} layers")
    return str(PoolingSchedule.parse(",".join(f"{first + i}:{length}" for i, length in enumerate(lengths))))


def convert(source: PretrainedSummarizer, changes: Mapping[str, Any]) -> Converted:
    """Convert a pretrained model.

    Args:
        source: the model.
        changes: fields of :class:`~pyramidion_fairseq.config.PyramidionConfig` to set: lengths, attention, pooling.

    Raises:
        PyramidionError: a field is determined by the weights, options contradict each other or the dictionary, or a
            tensor is missing, of another shape or unknown.
    """
    for name in SHAPE:
        if changes.get(name, source.options.get(name)) != source.options.get(name):
            raise PyramidionError(
                f"{name} of the pretrained model is {source.options.get(name)!r}, and cannot become {changes[name]!r}"
            )
    if changes.get("attention", "lsg") == "lsh" and source.options.get("attention") != "lsh":
        raise PyramidionError("--attention lsh shares queries and keys, and cannot use those of a pretrained model")
    known = {field.name for field in fields(PyramidionConfig)} - {"_name"}
    options = vars(complete(Namespace(**{k: v for k, v in {**source.options, **changes}.items() if k in known})))
    try:
        plain_options.check_options(options, source.state)  # before a model of that size is built
    except plain_options.UnusableOptionError as error:
        raise PyramidionError(str(error)) from None
    dictionary = dictionary_files.make_dictionary(source.symbols)
    markers_of(Namespace(**options), dictionary, Markers())  # raises if the dictionary lacks a marker
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    torch.manual_seed(1)
    model = PyramidionModel.build_model(Namespace(**options), task).eval()
    state = dict(source.state)
    done = adapt_state(model, state)
    fill_buffers(model, state)
    check_tensors(model, state)
    done = [*source.changes, *done]
    changed = {name for change in done for name in change.names}
    return Converted(_make_checkpoint(options, state, source), done, [name for name in state if name not in changed])


def _make_checkpoint(
    options: Mapping[str, Any], state: dict[str, Tensor], source: PretrainedSummarizer
) -> dict[str, Any]:
    """Return a checkpoint with its dictionary, for ``fairseq-generate`` and ``--restore-file``."""
    task: dict[str, Any] = {"task": "long_document_summarization", "source_lang": "source", "target_lang": "target"}
    pieces = isinstance(source.bpe, Path)
    task["bpe"] = "gpt2" if is_byte_level(dictionary_files.make_dictionary(source.symbols)) else None
    cfg = convert_namespace_to_omegaconf(Namespace(arch="pooled_transformer", **task, **options))
    cfg = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    digest = vocabularies.digest(str(source.bpe)) if pieces else None
    described = vocabularies.describe(source.symbols, source.symbols, digest)
    return new_checkpoint(cfg, state, {vocabularies.KEY: described})


def fill_buffers(model: PyramidionModel, state: dict[str, Tensor]) -> None:
    """Add the buffers of sinusoidal positions, which other code does not save."""
    for name, tensor in model.state_dict().items():
        if name.endswith("._float_tensor"):
            state.setdefault(name, tensor)


def check_tensors(model: PyramidionModel, state: Mapping[str, Tensor]) -> None:
    """Raise PyramidionError if a tensor is missing, unknown, of another shape, not finite, or of integers."""
    wanted = dict(model.state_dict())
    problems = [f"{name} is missing" for name in wanted if name not in state]
    problems += [f"{name} is unknown" for name in state if name not in wanted]
    for name, tensor in state.items():
        if name in wanted and tensor.shape != wanted[name].shape:
            problems.append(f"{name} is {tuple(tensor.shape)}, not {tuple(wanted[name].shape)}")
        elif name in wanted and wanted[name].is_floating_point() and not tensor.is_floating_point():
            problems.append(f"{name} is of {str(tensor.dtype).removeprefix('torch.')}, not of floating point numbers")
        elif not tensor.isfinite().all():
            problems.append(f"{name} is not finite")
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise PyramidionError("the tensors do not fit: " + "; ".join(problems[:3]) + more)


def write(converted: Converted, source: PretrainedSummarizer, folder: Path) -> None:
    """Write model.pt, dictionaries, BPE files, generation.json, arguments.txt, and conversion.json with all changes.

    Raises:
        PyramidionError, OSError: see :func:`write_folder`.
    """
    dictionaries = dict.fromkeys(("dict.txt", "dict.source.txt", "dict.target.txt"), source.symbols)
    texts = {ARGUMENTS: " ".join(training_arguments(converted.checkpoint["cfg"]["model"])) + "\n"}
    if source.generation:
        texts[pretrained.GENERATION] = json.dumps(source.generation, indent=1) + "\n"
    write_folder(converted, dictionaries, source.bpe, folder, texts)


def training_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return the arguments with which ``fairseq-train`` builds a model with these options."""
    words = ["--arch", "pooled_transformer"]  # its options are the defaults
    for field in fields(PyramidionConfig):
        value = options.get(field.name, field.default)
        if field.name != "_name" and value != field.default:
            words += ["--" + field.name.replace("_", "-"), *([] if value is True else [str(value)])]
    return words


def write_folder(
    converted: Converted,
    dictionaries: Mapping[str, list[str]],
    bpe: byte_level.Bpe | Path | None,
    folder: Path,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a converted model to a new folder, with its dictionaries and BPE.

    Args:
        converted: the model, for model.pt and conversion.json.
        dictionaries: symbols by the name of the file.
        bpe: a byte-level BPE, the file of a sentencepiece model, or None.
        folder: the folder, which must not exist or be empty. After an error, it is empty or removed.
        texts: further files, content by name.

    Raises:
        PyramidionError: the folder exists and is not empty, or fairseq could not read data in it.
        OSError: a file cannot be written.
    """
    check_free(folder)
    with complete_folder(folder):
        for name, symbols in dictionaries.items():
            dictionary_files.write_dictionary(symbols, folder / name)
        if isinstance(bpe, Path):
            shutil.copyfile(bpe, folder / vocabularies.SENTENCEPIECE[0])
        elif bpe is not None:
            byte_level.write_bpe(bpe, folder)
        report = json.dumps(describe(converted), indent=1) + "\n"
        for name, text in {**(texts or {}), "conversion.json": report}.items():
            (folder / name).write_text(text, encoding="utf-8")
        save_checkpoint(converted.checkpoint, folder / "model.pt")


def check_free(folder: Path) -> None:
    """Refuse an output folder that exists and is not empty, or in which fairseq could not read data."""
    if os.pathsep in str(folder):
        raise PyramidionError(f"{folder} contains {os.pathsep!r}, which fairseq reads as a separator: rename it")
    check_empty(folder)


def describe(converted: Converted) -> dict[str, Any]:
    """Return the content of conversion.json: the options, and the origin of every tensor."""
    state = converted.checkpoint["model"]
    done = [{"kind": change.kind, "what": change.text, "tensors": list(change.names)} for change in converted.changes]
    values = sum(state[name].numel() for name in converted.copied)
    copied = {"kind": "copied", "what": f"{values:,} values, bit for bit", "tensors": converted.copied}
    return {"options": converted.checkpoint["cfg"]["model"], "tensors": [copied, *done]}
