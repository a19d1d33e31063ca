"""Checks, in fairseq's own commands, that a model's dictionaries and sentencepiece model match the data.

They are made when fairseq loads a checkpoint for generation or validation, when a task opens its data, and when it
builds its BPE. For training see :mod:`.continued_runs`. The comparison is in :mod:`pyramidion_fairseq.vocabularies`.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

from fairseq import checkpoint_utils, tasks, utils
from fairseq.data import Dictionary
from fairseq.tasks.translation import TranslationTask
from omegaconf import OmegaConf

from .. import vocabularies
from ..errors import PyramidionError, user_errors
from ..tasks.data_folder import refuse_separator
from . import built_size, model_overrides
from .marks import mark

logger = logging.getLogger(__name__)

_REMEDY = "use data that was prepared with the model's dictionary (--srcdict), or another checkpoint"
_READ = "checkpoints_read"


def install() -> None:
    """Make fairseq compare dictionaries. Further calls do nothing."""
    if getattr(checkpoint_utils.load_model_ensemble_and_task, "compares_dictionaries", False):
        return
    checkpoint_utils.load_model_ensemble_and_task = _loader(checkpoint_utils.load_model_ensemble_and_task)
    tasks.FairseqTask.build_bpe = _bpe_builder(tasks.FairseqTask.build_bpe)
    TranslationTask.setup_task = classmethod(_task_builder(TranslationTask.setup_task.__func__))


def _loader(stock: Any) -> Any:
    @functools.wraps(stock)
    def load_model_ensemble_and_task(
        filenames: list[str],
        arg_overrides: Any = None,
        task: Any = None,
        strict: bool = True,
        suffix: str = "",
        num_shards: int = 1,
        state: Any = None,
    ) -> tuple[list[Any], Any, Any]:
        """Load models as fairseq does, and compare each checkpoint's dictionaries with the task's before building it.

        With ``state``, the caller has read the checkpoint, and is responsible for the comparison.

        Raises:
            PyramidionError: dictionaries differ, or no model can be built from the file or its options.
        """
        models: list[Any] = []
        cfg = None
        for filename in filenames:
            with user_errors(filename, "loaded"):
                read = state if state is not None else _read(filename, arg_overrides, suffix, num_shards)
                if state is None and (task is not None or "model_overrides" in (arg_overrides or {})):
                    model_overrides.check_names(read.get("cfg"), arg_overrides or {}, filename)
                if task is None and read.get("cfg") is not None:
                    task = tasks.setup_task(read["cfg"].task, from_checkpoint=True)
                if state is None:
                    vocabularies.check_dictionaries(read.get("extra_state"), task, filename, _REMEDY)
                    vars(task).setdefault(_READ, []).append((filename, read.get("extra_state")))
                with built_size.bounded(filename, read["model"], shards=num_shards):
                    loaded, cfg, task = stock([filename], arg_overrides, task, strict, suffix, num_shards, read)
                _warn_of_untrained(filename, loaded)
            models += loaded
        return models, cfg, task

    return mark(load_model_ensemble_and_task, "compares_dictionaries")


def _warn_of_untrained(filename: str, models: list[Any]) -> None:
    """Warn of parameters that a checkpoint lacks, as with ``--model-overrides "{'pointer': True}"``."""
    texts = dict.fromkeys(
        change.text for model in models for change in getattr(model, "_state_changes", ()) if change.kind == "new"
    )
    for text in texts:
        logger.warning(f"{filename}: {text}; it is used untrained, which may give poor summaries")


def _read(filename: str, overrides: Any, suffix: str, num_shards: int) -> dict[str, Any]:
    """Return the checkpoint, or the first of its shards."""
    if not filename:
        raise PyramidionError("--path is missing: give the path of a checkpoint")
    path = checkpoint_utils.get_maybe_sharded_checkpoint_filename(filename, suffix, 0, num_shards)
    if not checkpoint_utils.PathManager.exists(path):
        raise PyramidionError(f"there is no checkpoint {path}")
    return checkpoint_utils.load_checkpoint_to_cpu(path, overrides)


def _bpe_builder(stock: Any) -> Any:
    @functools.wraps(stock)
    def build_bpe(self: Any, args: Any) -> Any:
        """Build the BPE as fairseq does, and compare its files with those of the checkpoints that were read.

        Raises:
            PyramidionError: the file for ``--bpe sentencepiece`` is missing, or a checkpoint was trained with another
                sentencepiece model or byte-level BPE.
        """
        _check_sentencepiece(args)
        path, byte_level = vocabularies.sentencepiece_of(args), vocabularies.byte_level_of(args)
        for checkpoint, extra_state in vars(self).get(_READ, []):
            if path is not None:
                remedy = "give its path with --sentencepiece-model"
                vocabularies.check_tokenizer(extra_state, "sentencepiece", [path], checkpoint, remedy)
            if byte_level is not None:
                remedy = "give their paths with --gpt2-encoder-json and --gpt2-vocab-bpe"
                vocabularies.check_tokenizer(extra_state, "byte_level", byte_level, checkpoint, remedy)
        return stock(self, args)

    return build_bpe


def _check_sentencepiece(args: Any) -> None:
    if getattr(args, "_name", None) != "sentencepiece":
        return
    missing = OmegaConf.is_config(args) and OmegaConf.is_missing(args, "sentencepiece_model")
    path = None if missing else args.sentencepiece_model
    if not path:
        raise PyramidionError(
            "--bpe sentencepiece needs --sentencepiece-model FILE, the sentencepiece.model of the data's folder"
        )
    if not os.path.isfile(path) and "://" not in path:
        raise PyramidionError(
            f"--sentencepiece-model {path} does not exist: give the path of the data's sentencepiece.model"
        )


def _task_builder(stock: Any) -> Any:
    @functools.wraps(stock)
    def setup_task(cls: Any, cfg: Any, **kwargs: Any) -> Any:
        """Set up the task as fairseq does, and compare the dictionaries of all shards ``A:B`` of the corpus.

        Raises:
            PyramidionError: the path of a folder contains ``:``, or two shards have different dictionaries.
        """
        refuse_separator(cfg.data)
        task = stock(cls, cfg, **kwargs)
        for folder in utils.split_paths(cfg.data)[1:]:
            for side, dictionary in zip(vocabularies.SIDES, (task.src_dict, task.tgt_dict)):
                path = os.path.join(folder, f"dict.{getattr(cfg, f'{side}_lang')}.txt")
                _check_shard(path, dictionary.symbols, vocabularies.dictionary_path(task, side))
        return task

    return setup_task


def _check_shard(path: str, symbols: list[str], first: str) -> None:
    if not os.path.isfile(path):
        return  # fairseq reads only the dictionary of the first folder
    with user_errors(path):
        others = Dictionary.load(path).symbols
    difference = vocabularies.first_difference(symbols, others) or vocabularies.first_difference(others, symbols)
    if difference:
        raise PyramidionError(
            f"{path} differs from {first}: {difference}; all shards need the same dictionary: prepare them with that "
            "of the first (fairseq-preprocess --srcdict)"
        )
