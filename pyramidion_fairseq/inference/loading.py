"""Loading checkpoints for summarisation, with their dictionaries and sentencepiece model."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Mapping, Sequence

import torch
from fairseq import checkpoint_utils, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf, overwrite_args_by_name
from fairseq.models import ARCH_MODEL_REGISTRY, FairseqEncoderModel
from omegaconf import OmegaConf, open_dict

from .. import checkpoints as safe_loading
from .. import pretrained, vocabularies
from ..errors import PyramidionError, one_line, user_errors
from ..text.byte_level import BYTE_LEVEL, byte_level_in, check_numbers, is_byte_level
from ..text.pieces import are_sentencepiece
from ..text.tokenizers import SentencepieceTokenizer, build_tokenizer
from ..utils.files import check_plain_name, read_json
from .precision import choose_dtype
from .summarizer import PyramidionHubInterface

logger = logging.getLogger(__name__)

#: Names of checkpoints to look for if a folder is given.
CHECKPOINTS = ("checkpoint_best.pt", "checkpoint_last.pt", "model.pt")


def load_summarizer(
    checkpoints: str | Sequence[str],
    data: str | None = None,
    sentencepiece_model: str | None = None,
    device: str = "auto",
    fp16: bool = False,
    overrides: Mapping[str, Any] | None = None,
    dtype: str | torch.dtype = "float32",
) -> PyramidionHubInterface:
    """Load one checkpoint, or several as an ensemble.

    Models and tasks of this package must be registered, as by ``import pyramidion_fairseq``.

    Args:
        checkpoints: files, folders with one of :data:`CHECKPOINTS`, or names of models that come with the package
            (:mod:`pyramidion_fairseq.pretrained`). A string may hold several, separated by ``os.pathsep``.
        data: folder of ``dict.*.txt``. Default: the folder of the checkpoint, or that of its training data.
        sentencepiece_model: sentencepiece model. Default, if the dictionaries hold pieces: the one recorded in the
            checkpoint, or one of :data:`~pyramidion_fairseq.vocabularies.SENTENCEPIECE` in the folder of the
            checkpoint, in that of the dictionaries or in its parent.
        device: "cpu", "cuda", "cuda:1", ...; "auto" is a GPU if available.
        fp16: same as ``dtype="float16"`` on a GPU; no effect on other devices.
        overrides: new values for the checkpoints' model and task options.
        dtype: "float32", "bfloat16", "float16" (on a GPU), a ``torch.dtype``, or "auto", the device's fastest one.

    Raises:
        PyramidionError: a file is missing, damaged or belongs to another model, or an option or dtype is unknown.
    """
    safe_loading.install()
    paths = [find_checkpoint(pretrained.find(path)) for path in _split_paths(checkpoints)]
    torch_device = device_of(device)
    if fp16 and torch_device.type == "cuda":
        dtype = "float16"
    elif fp16:
        logger.warning(f"--fp16 is for GPUs: {dtype} on this {torch_device.type}")
    torch_dtype = choose_dtype(dtype, torch_device)
    models: list[Any] = []
    records: dict[str, Any] = {}
    task: Any = None
    cfg: Any = None
    for path in paths:
        with user_errors(path, "loaded"):
            state = checkpoint_utils.load_checkpoint_to_cpu(path)
            cfg = state["cfg"] if state.get("cfg") is not None else convert_namespace_to_omegaconf(state["args"])
            _refuse_encoder(cfg, path)
            _apply_overrides(cfg, overrides or {})
            if task is None:
                task = _set_up_task(cfg, path, data)
            _check_dictionary(state, task, path)
            records[path] = state.get("extra_state")
            state = {**state, "cfg": cfg, "args": None}
            loaded, _, _ = checkpoint_utils.load_model_ensemble_and_task([path], task=task, state=state)
        models += loaded
    _set_bpe(cfg, task, sentencepiece_model, os.path.dirname(paths[0]))
    _check_bpe(cfg, records, task.source_dictionary)
    with open_dict(cfg):  # read by fairseq's translate(), and missing in some checkpoints
        cfg.dataset = cfg.get("dataset") or {"max_tokens": None, "batch_size": 8}
    hub = PyramidionHubInterface(cfg, task, models).to(torch_device, torch_dtype)
    hub.generation_settings = pretrained.generation_settings(os.path.dirname(paths[0]))
    return hub.eval()


def _check_bpe(cfg: Any, records: Mapping[str, Any], dictionary: Any) -> None:
    """Raise an error for another sentencepiece model or byte-level BPE than a checkpoint's; ``records`` are by path.

    A byte-level BPE must have the tokens of the dictionary, even if no record says which one it was.
    """
    model, byte_level = vocabularies.sentencepiece_of(cfg.bpe), vocabularies.byte_level_of(cfg.bpe)
    for path, record in records.items():
        if model is not None:
            remedy = "give its path with --sentencepiece-model"
            vocabularies.check_tokenizer(record, "sentencepiece", [model], path, remedy)
        if byte_level is not None:
            remedy = "put those of its training next to the checkpoint"
            vocabularies.check_tokenizer(record, "byte_level", byte_level, path, remedy)
    if byte_level is not None:
        encoder = Path(byte_level[0])
        check_numbers(
            dictionary.symbols,
            read_json(encoder).values(),
            encoder,
            "put the files of its training next to the checkpoint",
        )


def _refuse_encoder(cfg: Any, path: str) -> None:
    name = (cfg.get("model") or {}).get("_name")
    if issubclass(ARCH_MODEL_REGISTRY.get(name, object), FairseqEncoderModel):
        raise PyramidionError(
            f"{path} cannot be loaded: {name} is an encoder, which writes no summaries; pyramidion-classify takes "
            "classifiers"
        )


def _apply_overrides(cfg: Any, overrides: Mapping[str, Any]) -> None:
    unknown = [name for name in overrides if not any(name in (cfg.get(part) or {}) for part in ("model", "task"))]
    if unknown:
        raise PyramidionError(f"{', '.join(unknown)}: neither model nor task has such an option")
    overwrite_args_by_name(cfg, dict(overrides))


def _split_paths(checkpoints: str | Sequence[str]) -> list[str]:
    if not isinstance(checkpoints, str):
        return [str(path) for path in checkpoints]
    return [checkpoints] if os.path.exists(checkpoints) else checkpoints.split(os.pathsep)


def find_checkpoint(path: str) -> str:
    if os.path.isdir(path):
        found = [os.path.join(path, name) for name in CHECKPOINTS if os.path.isfile(os.path.join(path, name))]
        if not found:
            raise PyramidionError(f"{path} has no {' or '.join(CHECKPOINTS)}: name the checkpoint's file")
        return found[0]
    if not os.path.isfile(path):
        raise PyramidionError(f"there is no checkpoint {path}")
    return path


def device_of(name: str) -> torch.device:
    """Return the device of the given name; "auto" is a GPU if available.

    Raises:
        PyramidionError: the device does not exist.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PyramidionError(f"--device {name}: {one_line(error)}") from None
    return device


def _set_up_task(cfg: Any, path: str, data: str | None) -> Any:
    folder, languages = _find_dictionaries(cfg, path, data)
    _check_path(folder, os.pathsep)
    with open_dict(cfg):
        cfg.task.data = folder
        cfg.task.source_lang, cfg.task.target_lang = languages
        if "sequence_parallel" in cfg.task:
            cfg.task.sequence_parallel = 1  # only applies to training
    task = tasks.setup_task(cfg.task, from_checkpoint=True)
    # fairseq's choices are anonymous enums, which cannot be pickled. Replace them by strings.
    plain = OmegaConf.create(OmegaConf.to_container(task.cfg, enum_to_str=True))
    OmegaConf.set_struct(plain, True)
    task.cfg = plain
    return task


def _check_path(path: str, *separators: str) -> None:
    """Raise an error for a path that fairseq's options would resolve or split, and so change to another path."""
    parts = [part for part in ("${", *separators) if part in path]
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        parts.append("characters that are not UTF-8")
    if parts:
        raise PyramidionError(f"{path} has {' and '.join(parts)} in it, which fairseq cannot take: rename the folder")


def _check_dictionary(state: Mapping[str, Any], task: Any, path: str) -> None:
    """Raise an error for a dictionary with another size or other symbols than the model's.

    fairseq's own error, raised later, tells the user to train again.
    """
    embedding, dictionary = state["model"].get("encoder.embed_tokens.weight"), task.source_dictionary
    most_rows = len(dictionary) + ("<mask>" not in dictionary)  # BART's <mask> may be missing
    if embedding is not None and not len(dictionary) <= len(embedding) <= most_rows:
        raise PyramidionError(
            f"{path} has {len(embedding):,} symbols and does not belong to the dictionaries in {task.cfg.data}, which "
            f"have {len(dictionary):,}: give the folder of its own with --data"
        )
    vocabularies.check_dictionaries(state.get("extra_state"), task, path, "give the folder of its own with --data")


def _find_dictionaries(cfg: Any, path: str, data: str | None) -> tuple[str, tuple[str, str]]:
    given = (cfg.task.get("source_lang") or "source", cfg.task.get("target_lang") or "target")
    languages = check_plain_name(given[0], path), check_plain_name(given[1], path)
    recorded = str(cfg.task.get("data") or "").split(os.pathsep)[0]
    if data:
        _refuse_separator(data)
    folders = [data] if data else [os.path.dirname(path) or ".", recorded]
    for folder in filter(None, folders):
        if all(os.path.isfile(os.path.join(folder, f"dict.{language}.txt")) for language in languages):
            return folder, languages
    names = " and ".join(dict.fromkeys(f"dict.{language}.txt" for language in languages))
    raise PyramidionError(
        f"no {names} in {' or '.join(dict.fromkeys(filter(None, folders)))}: give the folder of the model's "
        "dictionaries with --data"
    )


def _refuse_separator(folder: str) -> None:
    if os.pathsep in folder:
        raise PyramidionError(
            f"the folder of the dictionaries, {folder}, has {os.pathsep!r} in its path, which fairseq reads as a list "
            "of folders: rename it, or give the path of a copy with --data"
        )


def _set_bpe(cfg: Any, task: Any, given: str | None, checkpoint_folder: str) -> None:
    dictionary = task.source_dictionary
    if given is None and is_byte_level(dictionary):
        byte_level = _find_byte_level(task.cfg.data, checkpoint_folder)
        for path in byte_level.values():
            _check_path(path)
        with open_dict(cfg):
            cfg.bpe = OmegaConf.create({"_name": "gpt2", **byte_level})
            cfg.tokenizer = None
        return
    wanted = given is not None or are_sentencepiece(dictionary.symbols)
    model = (given or _find_sentencepiece(cfg, task.cfg.data, checkpoint_folder)) if wanted else None
    if model is not None:
        _check_path(model)
        check_pieces(SentencepieceTokenizer.from_file(dictionary, model), model)
    bpe = {"_name": "sentencepiece", "sentencepiece_model": model, "sentencepiece_enable_sampling": False}
    with open_dict(cfg):
        cfg.bpe = OmegaConf.create({**bpe, "sentencepiece_alpha": None}) if model else None
        cfg.tokenizer = None
    if model is None:
        build_tokenizer(dictionary, None)


def _find_sentencepiece(cfg: Any, data: str, checkpoint_folder: str) -> str:
    recorded = vocabularies.sentencepiece_of(cfg.get("bpe"))
    folders = _folders_beside(data, checkpoint_folder)
    found = recorded or next(vocabularies.sentencepiece_in(folders), None)
    if found is not None:
        return found
    raise PyramidionError(
        f"no {vocabularies.SENTENCEPIECE[0]} in {', '.join(folders)}: give its path with --sentencepiece-model"
    )


def _folders_beside(data: str, checkpoint_folder: str) -> list[str]:
    """Return the folders in which to look for a model's tokenizer files."""
    return list(dict.fromkeys([checkpoint_folder or ".", data, os.path.dirname(os.path.abspath(data))]))


def _find_byte_level(data: str, checkpoint_folder: str) -> dict[str, str]:
    """Return the options of ``--bpe gpt2``, whose files ``pyramidion-convert bart`` writes."""
    folders = _folders_beside(data, checkpoint_folder)
    found = next(byte_level_in(folders), None)
    if found is not None:
        return dict(zip(vocabularies.BYTE_LEVEL_OPTIONS, found))
    raise PyramidionError(
        f"the dictionary has the numbers of GPT-2's tokens, but no {' with '.join(BYTE_LEVEL)} is in "
        f"{', '.join(folders)}: put both next to the checkpoint"
    )


def check_pieces(tokenizer: SentencepieceTokenizer, path: str) -> None:
    """Raise an error if the dictionary has few pieces of a sentencepiece model, and warn if it lacks some.

    Raises:
        PyramidionError: the dictionary has fewer than half of the pieces.
    """
    known, pieces = tokenizer.count_known_pieces()
    if 2 * known < pieces:
        raise PyramidionError(
            f"{path} is another model's: the dictionary has {known} of its {pieces} pieces; give the "
            "path of its own with --sentencepiece-model"
        )
    if 10 * known < 9 * pieces:  # with a frequency threshold, a vocabulary lacks a few
        logger.warning(f"{path} may be another model's: the dictionary lacks {pieces - known} of its {pieces} pieces")
