"""Models that meet data of another dictionary, or text of another sentencepiece model, in fairseq's own commands.

Where fairseq's loader reads a checkpoint to generate or to validate, where a task opens its data, and where it builds
its BPE. Training is in :mod:`.continued_runs`. What is compared is told in :mod:`pyramidion_fairseq.vocabularies`.
"""

from __future__ import annotations

import functools
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

_REMEDY = "give the data that was prepared with the model's dictionary (prepare with --srcdict, or another checkpoint)"
_READ = "checkpoints_read"


def install() -> None:
    """Make fairseq compare dictionaries. Calling it again does nothing."""
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
        """Do as fairseq does; each checkpoint's dictionaries are compared with the task's before its model is built.

        With ``state``, the caller has read the checkpoint, and compares.

        Raises:
            PyramidionError: they differ, or the file or its options are none to build a model of.
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
                    vocabularies.check(read.get("extra_state"), task, filename, _REMEDY)
                    vars(task).setdefault(_READ, []).append((filename, read.get("extra_state")))
                with built_size.bounded(filename, read["model"], shards=num_shards):
                    loaded, cfg, task = stock([filename], arg_overrides, task, strict, suffix, num_shards, read)
            models += loaded
        return models, cfg, task

    return mark(load_model_ensemble_and_task, "compares_dictionaries")


def _read(filename: str, overrides: Any, suffix: str, num_shards: int) -> dict[str, Any]:
    """Return the checkpoint, or the first of its shards."""
    if not filename:
        raise PyramidionError("--path is needed: which checkpoint?")
    path = checkpoint_utils.get_maybe_sharded_checkpoint_filename(filename, suffix, 0, num_shards)
    if not checkpoint_utils.PathManager.exists(path):
        raise PyramidionError(f"there is no checkpoint {path}")
    return checkpoint_utils.load_checkpoint_to_cpu(path, overrides)


def _bpe_builder(stock: Any) -> Any:
    @functools.wraps(stock)
    def build_bpe(self: Any, args: Any) -> Any:
        """Do as fairseq does.

        Raises:
            PyramidionError: ``--bpe sentencepiece`` without its file; or a checkpoint read before was trained with
                another sentencepiece model or byte-level BPE.
        """
        _check_sentencepiece(args)
        path, byte_level = vocabularies.sentencepiece_of(args), vocabularies.byte_level_of(args)
        for checkpoint, extra_state in vars(self).get(_READ, []):
            if path is not None:
                remedy = "say with --sentencepiece-model where that is"
                vocabularies.check_sentencepiece(extra_state, path, checkpoint, remedy)
            if byte_level is not None:
                remedy = "say with --gpt2-encoder-json and --gpt2-vocab-bpe where those are"
                vocabularies.check_byte_level(extra_state, byte_level, checkpoint, remedy)
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
            f"--sentencepiece-model {path} is not there: say where the data's sentencepiece.model is"
        )


def _task_builder(stock: Any) -> Any:
    @functools.wraps(stock)
    def setup_task(cls: Any, cfg: Any, **kwargs: Any) -> Any:
        """Do as fairseq does.

        Raises:
            PyramidionError: the data's path has a ``:`` in it, or of the folders between ``:``, shards of one corpus,
                two have different dictionaries.
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
        return  # fairseq reads the first folder's only
    with user_errors(path):
        others = Dictionary.load(path).symbols
    difference = vocabularies.first_difference(symbols, others) or vocabularies.first_difference(others, symbols)
    if difference:
        raise PyramidionError(
            f"{path} is not {first}: {difference}; shards need one dictionary: prepare them with that of the first "
            "(fairseq-preprocess --srcdict)"
        )
