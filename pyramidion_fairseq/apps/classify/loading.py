"""Load checkpoints of classifiers with their dictionary, labels and tokenizer."""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from pathlib import Path
from typing import Any, Sequence

import torch
from fairseq.data.encoders.gpt2_bpe_utils import Encoder
from torch import Tensor

from ... import checkpoints, class_labels, vocabularies
from ...errors import PyramidionError, user_errors
from ...inference.loading import device_of, find_checkpoint
from ...interop import byte_level, dictionary_files
from ...interop.subwords import find_subwords
from ...models.encoder_config import FIELDS
from ...models.roberta import LSGRobertaModel
from ...text import SentencepieceTokenizer, Tokenizer, WordTokenizer
from ...text.byte_level import ByteLevelTokenizer
from ...text.pieces import are_sentencepiece
from .classifier import Classifier

logger = logging.getLogger(__name__)


def load_classifier(
    path: str,
    head: str | None = None,
    data: str | None = None,
    sentencepiece_model: str | None = None,
    device: str = "auto",
) -> Classifier:
    """Load a checkpoint of ``fairseq-train --task sentence_prediction``, or of ``pyramidion-convert roberta``.

    Args:
        path: file of the checkpoint, or its folder.
        head: classification head, if there are several.
        data: folder with ``input0/dict.txt`` or ``dict.txt``, and ``label/dict.txt``, for a checkpoint that contains
            no dictionary and no labels.
        sentencepiece_model: path of the model; by default ``sentencepiece.model`` next to the checkpoint or its data.
        device: "cpu", "cuda", ...; "auto": a GPU if available.

    Raises:
        PyramidionError: the checkpoint is not a classifier, or a file is missing, damaged or of another model.
    """
    checkpoint = find_checkpoint(path)
    torch_device = device_of(device)
    with user_errors(checkpoint, "loaded"):
        state = checkpoints.load_checkpoint(checkpoint)
        options = vocabularies.options_of(state, "model")
        arch = options.get("_name") or options.get("arch")
        if not str(arch).startswith("lsg_roberta") or not isinstance(state.get("model"), dict):
            raise PyramidionError(
                f"{checkpoint} is not a classifier of this package: its architecture is {arch or 'unknown'} "
                "(pyramidion-convert roberta converts RoBERTa, CamemBERT and XLM-R)"
            )
        symbols = _symbols(state, checkpoint, data)
        model = _build(options, state["model"], symbols, checkpoint)
        name = _head(model, state, head, checkpoint)
        labels = _labels(model, state, name, data)
    checkpoints.check_finite(dict(model.named_parameters()), checkpoint)
    folders = [Path(checkpoint).parent, *_data_folders(state, data)]
    bpe = find_subwords(
        symbols,
        Path(sentencepiece_model) if sentencepiece_model else _byte_level_folder(folders),
        folders,
        state.get("extra_state"),
        Path(checkpoint),
        "--sentencepiece-model",
    )
    task = vocabularies.options_of(state, "task")
    init, separator = (task.get(key) for key in ("init_token", "separator_token"))
    for option, token in {"init_token": init, "separator_token": separator}.items():
        if token is not None and not (isinstance(token, int) and 0 <= token < len(symbols)):
            raise PyramidionError(
                f"{checkpoint} has {option}={token!r:.50}, which is not an id of its {len(symbols):,} symbols"
            )
    tokenizer = _tokenizer(model.encoder.dictionary, symbols, bpe, checkpoint)
    cuts_end = task.get("shorten_method") == "truncate"
    return Classifier(model.to(torch_device).eval(), name, labels, tokenizer, init, separator, cuts_end)


def _data_folders(state: Any, data: str | None) -> list[Path]:
    recorded = data or str(vocabularies.options_of(state, "task").get("data") or "").split(os.pathsep)[0]
    return [Path(recorded), Path(recorded).absolute().parent] if recorded else []


def _byte_level_folder(folders: Sequence[Path]) -> Path | None:
    return next((folder for folder in folders if (folder / "vocab.bpe").is_file()), None)


def _symbols(state: Any, checkpoint: str, data: str | None) -> list[str]:
    record = vocabularies.recorded(state.get("extra_state"))
    if record is not None and data is None:
        return record["source"].split("\n")
    folders = [Path(data)] if data else [Path(checkpoint).parent, *_data_folders(state, None)]
    for dictionary_path in (folder / name for folder in folders for name in ("input0/dict.txt", "dict.txt")):
        if dictionary_path.is_file():
            symbols = dictionary_files.read_dictionary(dictionary_path)
            symbols += ["<mask>"] if "<mask>" not in symbols else []
            remedy = "give the folder of its own dictionary with --data"
            vocabularies.check_symbols(state.get("extra_state"), symbols, checkpoint, str(dictionary_path), remedy)
            return symbols
    missing = f"{data} has no input0/dict.txt and no dict.txt" if data else f"{checkpoint} contains no dictionary"
    raise PyramidionError(f"{missing}: give the folder that has input0/dict.txt with --data")


def _build(options: Any, tensors: dict[str, Tensor], symbols: list[str], checkpoint: str) -> LSGRobertaModel:
    given = {name: options[name] for name in FIELDS if options.get(name) is not None}
    task = Namespace(source_dictionary=dictionary_files.make_dictionary(symbols))
    model = LSGRobertaModel.build_model(Namespace(**{**given, "load_checkpoint_heads": True}), task)
    tensors = dict(tensors)
    model.upgrade_state_dict_named(tensors, "")
    try:
        torch.nn.Module.load_state_dict(model, tensors, strict=True)
    except RuntimeError as error:
        first = " ".join(str(error).split(":", 1)[-1].split())[:200]
        raise PyramidionError(f"{checkpoint} does not match the model that its options describe: {first}") from None
    return model


def _head(model: LSGRobertaModel, state: Any, given: str | None, checkpoint: str) -> str:
    known = list(model.classification_heads)
    name = given or vocabularies.options_of(state, "task").get("classification_head_name")
    if name in known:
        return str(name)
    if given is None and len(known) == 1:
        return known[0]
    what = f"no head {given!r}" if given else "no classification head" if not known else "several heads: give --head"
    raise PyramidionError(
        f"{checkpoint} has {what}"
        + (f"; it has: {', '.join(known)}" if known else ": train one with --task sentence_prediction")
    )


def _labels(model: LSGRobertaModel, state: Any, head: str, data: str | None) -> list[str] | None:
    """Return the names of the classes; None for regression."""
    classes = model.classification_heads[head].out_proj.out_features
    if vocabularies.options_of(state, "criterion").get("regression_target"):
        return None
    labels = class_labels.labels_of_checkpoint(state.get("extra_state"), head)
    for folder in () if labels else _data_folders(state, data):
        labels_path = folder / "label" / "dict.txt"
        if labels_path.is_file():
            labels = class_labels.without_padding(dictionary_files.read_symbols(labels_path))
            break
    labels = [class_labels.as_written(label) for label in (labels or [])]
    doubled = next((label for label in labels if labels.count(label) > 1), None)
    if doubled is not None:
        raise PyramidionError(
            f"the label {doubled!r} of the head {head} is used for more than one class: rename the labels"
        )
    if len(labels) > classes:
        raise PyramidionError(f"the head {head} has {classes} classes, but there are {len(labels)} labels")
    if len(labels) < classes:
        logger.warning(
            f"the names of {classes - len(labels)} of the {classes} classes are unknown: using numbers instead"
        )
    return [*labels, *(f"class {number}" for number in range(len(labels), classes))]


def _tokenizer(dictionary: Any, symbols: list[str], bpe: byte_level.Bpe | Path | None, checkpoint: str) -> Tokenizer:
    if isinstance(bpe, Path):
        return SentencepieceTokenizer.from_file(dictionary, str(bpe))
    if bpe is not None:
        merges = [(left, right) for left, right in (merge.split() for merge in bpe.merges)]
        return ByteLevelTokenizer(dictionary, Encoder(bpe.numbers, merges))
    if are_sentencepiece(symbols):
        raise PyramidionError(
            f"no sentencepiece.model next to {checkpoint} or its data: give it with --sentencepiece-model"
        )
    if 2 * sum(symbol.isdigit() for symbol in symbols) > len(symbols):
        raise PyramidionError(f"no encoder.json with vocab.bpe next to {checkpoint}: copy both files there")
    return WordTokenizer(dictionary)
