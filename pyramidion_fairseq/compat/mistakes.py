"""Mistakes in what a user typed that stock fairseq ends with a traceback, a page of usage, or nothing at all.

Here each ends with one line that says what to type: docs/troubleshooting.md lists them.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import importlib.util
import os
import re
import sys
from typing import Any, Callable, Iterable

import numpy
import torch

from ..errors import PyramidionError
from .checkpoint_options import check_metric, check_start, warn_of_late_saves
from .marks import mark
from .model_overrides import parse as parse_overrides
from .number_options import check_counts, check_numbers, check_optimizer
from .precision_options import check_device, check_generation, missing_gpu
from .several_processes import is_torchrun

ON_A_CPU = (
    "several processes on CPUs are started by torchrun or Slurm (torchrun --nproc_per_node N --no_python "
    "fairseq-train ... --cpu --distributed-world-size N; docs/scaling.md); one process needs --cpu "
    "--distributed-world-size 1 alone"
)


def install() -> None:
    """Check the command line, the processes and the training options. Calling it again does nothing."""
    from fairseq import models, options, tasks, trainer
    from fairseq.distributed import utils

    if getattr(options.parse_args_and_arch, "tells_mistakes", False):
        return
    options.parse_args_and_arch = _parsing(options.parse_args_and_arch)
    tasks.setup_task = _before(tasks.setup_task, lambda cfg, *_, **__: check_task_name(cfg))
    models.build_model = _before(models.build_model, lambda cfg, *_, **__: check_architecture(cfg))
    utils.call_main = _before(utils.call_main, lambda cfg, *_, **__: check_command(cfg))
    trainer.Trainer.__init__ = _before(trainer.Trainer.__init__, lambda _, *of_run, **__: check_run(*of_run))


def _before(stock: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def checked(*args: Any, **kwargs: Any) -> Any:
        check(*args, **kwargs)
        return stock(*args, **kwargs)

    return checked


def _parsing(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def parse_args_and_arch(parser: Any, input_args: Any = None, *args: Any, **kwargs: Any) -> Any:
        parser.error = functools.partial(_error, parser)
        check_has_task(parser, sys.argv[1:] if input_args is None else input_args)
        parsed = stock(parser, input_args, *args, **kwargs)
        options = parsed[0] if isinstance(parsed, tuple) else parsed
        check_options(options)
        check_generation(options)
        return parsed

    return mark(parse_args_and_arch, "tells_mistakes")


def _error(parser: argparse.ArgumentParser, message: str) -> None:
    """End as argparse does, with its line and without the page of usage; names that are nearly right are said."""
    parser.exit(2, f"{parser.prog}: error: {explain_message(parser, message)}\n")


def explain_message(parser: argparse.ArgumentParser, message: str) -> str:
    """Return argparse's message on one line, with what was meant instead of all choices."""
    wrong = re.match(r"argument ([^:]+): invalid choice: '?([^' ]*)'? \(", message)
    action = parser._option_string_actions.get(wrong[1].split("/")[0]) if wrong else None
    if wrong and action is not None and action.choices:
        return f"{wrong[1]}: {no_such_name(wrong[2], action.choices)}"
    unread = re.match(r"argument ([^:]+): invalid <lambda> value: (.*)", message, re.S)
    if unread:  # fairseq's options of several numbers
        message = f"argument {unread[1]}: {unread[2]} is neither a number nor a list of numbers"
    if message.startswith("unrecognized arguments: "):
        flags = [word.partition("=")[0] for word in message.split()[2:] if word.startswith("--")]
        near = {flag: difflib.get_close_matches(flag, parser._option_string_actions, n=1) for flag in flags}
        meant = [f"{flag}: did you mean {found[0]}?" for flag, found in near.items() if found]
        message = "; ".join([message, *meant])
    return " ".join(message.split())


def no_such_name(name: str, known: Iterable[Any], hint: str = "--help and docs/options.md list the names") -> str:
    """Return the line that there is no such name, and which one may be meant; ``hint`` where none is near."""
    meant = difflib.get_close_matches(name, list(map(str, known)), n=1)
    hint = f"did you mean {meant[0]}?" if meant else hint
    return f"there is no {name!r}: {hint}"


def check_has_task(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """End where no task is given to a command that has no default, as ``fairseq-validate``: fairseq would not say so.

    Args:
        parser: the command's.
        words: of the command line.
    """
    action = parser._option_string_actions.get("--task")
    asks = {"-h", "--help"} & set(words)
    if action is not None and action.default is None and not asks and not _gives_task(words):
        parser.error("--task is needed: long_document_summarization, or that of the checkpoint")


def _gives_task(words: Iterable[str]) -> bool:
    return any(word == "--task" or word.startswith("--task=") for word in words)


def check_options(options: Any) -> None:
    """Refuse what every command ends with a traceback for.

    Args:
        options: of the command line, or of the groups that all commands have; any may be missing.

    Raises:
        PyramidionError: says which option, and what to give.
    """
    from fairseq.tasks import TASK_REGISTRY

    check_numbers(options)
    parse_overrides(getattr(options, "model_overrides", "{}"))
    results = getattr(options, "results_path", None)
    if results and os.path.exists(results) and not os.path.isdir(results):
        raise PyramidionError(f"--results-path {results} is a file: say in which folder the summaries are written")
    task = TASK_REGISTRY.get(getattr(options, "task", None))
    if hasattr(options, "context_window") and task is not None and not hasattr(task, "eval_lm_dataloader"):
        raise PyramidionError(
            "fairseq-eval-lm is for language models, which read no document: fairseq-validate gives the loss and the "
            "perplexity of summaries"
        )
    if getattr(options, "profile", False) and (options.cpu or not torch.cuda.is_available()):
        raise PyramidionError(f"--profile needs a GPU, and {missing_gpu(options)}: leave it out")


def check_task_name(cfg: Any) -> None:
    """Refuse a task that is not there; of the command line, argparse has looked at it, of Hydra nobody.

    Args:
        cfg: the task's options.

    Raises:
        PyramidionError: says which one may be meant.
    """
    from fairseq.tasks import TASK_REGISTRY

    name = getattr(cfg, "task", None)
    name = name if isinstance(name, str) else getattr(cfg, "_name", None)
    if not name:
        raise PyramidionError("no task is given: with Hydra +task._name=long_document_summarization")
    if name not in TASK_REGISTRY:
        hint = "--user-dir imports the package that has it (from Python: import it first)"
        raise PyramidionError(f"task: {no_such_name(name, TASK_REGISTRY, hint)}")


def check_architecture(cfg: Any) -> None:
    """Refuse an architecture that is not there, as :func:`check_task_name` does a task.

    Args:
        cfg: the model's options.

    Raises:
        PyramidionError: says which one may be meant.
    """
    from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY

    if "hydra" not in os.path.basename(sys.argv[0]):
        return  # of a checkpoint, whose file is named where it cannot be loaded
    known = {**ARCH_MODEL_REGISTRY, **MODEL_DATACLASS_REGISTRY}
    name = getattr(cfg, "_name", None) or getattr(cfg, "arch", None)
    if name and name not in known:
        raise PyramidionError(f"architecture: {no_such_name(name, known)}")


def check_command(cfg: Any) -> None:
    """Look at a command's task, processes and packages, before it begins."""
    check_task(cfg, sys.argv[1:])
    if not cfg.checkpoint.save_dir:
        raise PyramidionError("--save-dir is empty: say in which folder the checkpoints are written")
    if cfg.checkpoint.write_checkpoints_asynchronously and importlib.util.find_spec("iopath") is None:
        # fairseq would log it, train nothing and end with status 0.
        raise PyramidionError("--write-checkpoints-asynchronously needs iopath: pip install iopath, or leave it out")
    if getattr(cfg.task, "num_batch_buckets", 0) > 0 and numpy.lib.NumpyVersion(numpy.__version__) >= "2.0.0":
        raise PyramidionError(
            "--num-batch-buckets is of a fairseq for numpy 1: --required-seq-len-multiple pads to fewer lengths, too"
        )
    check_options(argparse.Namespace(**{**cfg.common, **cfg.common_eval, **cfg.dataset}))
    check_criterion(cfg)
    check_processes(cfg)


def check_task(cfg: Any, words: list[str]) -> None:
    """Refuse one of our architectures for the task that fairseq takes where none is given, which is not ours.

    Args:
        cfg: fairseq's whole configuration.
        words: of the command line, in which a task may have been chosen.

    Raises:
        PyramidionError: says which task to give.
    """
    from fairseq.models import ARCH_MODEL_REGISTRY

    arch = getattr(cfg.model, "_name", None)
    if not _gives_task(words) and is_ours(arch) and cfg.task._name == "translation" and not cfg.task.truncate_source:
        raise PyramidionError(f"--arch {arch} {ARCH_MODEL_REGISTRY[arch].needed_task}")


def check_criterion(cfg: Any) -> None:
    """Refuse the chunked loss for a model whose weights are spread over processes.

    Args:
        cfg: fairseq's whole configuration.

    Raises:
        PyramidionError: says which criterion to take.
    """
    sharded = cfg.distributed_training.ddp_backend == "fully_sharded"
    if sharded and getattr(cfg.criterion, "_name", None) == "chunked_cross_entropy":
        raise PyramidionError(
            "--criterion chunked_cross_entropy reads the vocabulary's weights, which --ddp-backend fully_sharded "
            "spreads over the processes: take cross_entropy or label_smoothed_cross_entropy"
        )


def is_ours(arch: str | None) -> bool:
    """Return whether an architecture is one of this package."""
    from fairseq.models import ARCH_MODEL_REGISTRY

    return getattr(ARCH_MODEL_REGISTRY.get(arch), "is_pyramidion", False)


def check_processes(cfg: Any) -> None:
    """Refuse more processes than there are GPUs for: fairseq starts none at all, with status 0, or divides by zero.

    Args:
        cfg: fairseq's whole configuration.

    Raises:
        PyramidionError: says how many there are.
    """
    wanted, gpus = cfg.distributed_training, torch.cuda.device_count()
    size = wanted.distributed_world_size
    if size <= 1 or cfg.common.tpu or wanted.pipeline_model_parallel:
        return
    launched = wanted.distributed_init_method is not None or wanted.distributed_port > 0
    if (gpus == 0 or cfg.common.cpu) and not (launched and wanted.distributed_no_spawn):
        reason = "--cpu is given" if gpus else "no GPU is there"
        raise PyramidionError(
            f"{size} processes (--distributed-world-size; GPUS= of a recipe), one for each GPU, and {reason}: "
            f"{ON_A_CPU} (GPUS=0)"
        )
    if size > gpus and not launched and not is_torchrun() and not _in_slurm():
        raise PyramidionError(
            f"{size} processes (--distributed-world-size; GPUS= of a recipe), one for each GPU, and {gpus} GPUs are "
            f"there: --distributed-world-size {gpus} (GPUS={gpus}); several nodes need torchrun or Slurm"
        )


def _in_slurm() -> bool:
    return bool(os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST"))


def check_run(cfg: Any, task: Any, *_: Any) -> None:
    """Look at the options and the validation data of a training, before it begins."""
    check_training(cfg)
    check_validation(cfg, task)


def check_validation(cfg: Any, task: Any) -> None:
    """Refuse validation batches that a document does not fit into: fairseq says so after an epoch that is not saved.

    Args:
        cfg: fairseq's whole configuration.
        task: has loaded the splits of validation.

    Raises:
        PyramidionError: says how many tokens are needed.
    """
    from ..tasks.dataset import DocumentPairDataset

    most = cfg.dataset.max_tokens_valid
    for split, dataset in task.datasets.items() if most else ():
        if not isinstance(dataset, DocumentPairDataset):
            continue  # of fairseq's tasks, which may leave out long documents
        longest = max(dataset.num_tokens_vec(slice(None)), default=0)
        if longest > most:
            raise PyramidionError(
                f"--max-tokens-valid {most} (if it is not given, --max-tokens): a document or summary of {split} has "
                f"{longest} tokens: --max-tokens-valid {longest} or more"
            )


def check_training(cfg: Any) -> None:
    """Refuse what trains to nothing, or fails after minutes.

    Args:
        cfg: fairseq's whole configuration.

    Raises:
        PyramidionError: says which option, and what to give.
    """
    check_device(cfg.common)
    check_start(cfg.checkpoint)
    check_metric(cfg)
    warn_of_late_saves(cfg)
    check_counts(cfg)
    launched = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if launched > 1 and cfg.distributed_training.distributed_world_size == 1:
        raise PyramidionError(
            f"torchrun has started {launched} processes, and each would train a model of its own in "
            f"{cfg.checkpoint.save_dir}: --distributed-world-size {launched}; {ON_A_CPU}"
        )
    check_optimizer(cfg, is_ours(getattr(cfg.model, "_name", None)))
