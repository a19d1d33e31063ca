"""Checks of a command's options that stock fairseq answers with a traceback, a page of usage, or nothing at all.

Here each mistake ends with one line that says what to do. docs/troubleshooting.md lists these lines.
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
    "start several processes on CPUs with torchrun or Slurm (torchrun --nproc_per_node N --no_python "
    "fairseq-train ... --cpu --distributed-world-size N; docs/scaling.md); one process needs only --cpu "
    "--distributed-world-size 1"
)


def install() -> None:
    """Check the command line, the processes and the training options. Further calls do nothing."""
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
    """Exit as argparse does, with a one-line error that suggests similar names, and without the page of usage."""
    parser.exit(2, f"{parser.prog}: error: {explain_message(parser, message)}\n")


def explain_message(parser: argparse.ArgumentParser, message: str) -> str:
    """Return argparse's message on one line, with a similar name instead of all choices."""
    wrong = re.match(r"argument ([^:]+): invalid choice: '?([^' ]*)'? \(", message)
    action = parser._option_string_actions.get(wrong[1].split("/")[0]) if wrong else None
    if wrong and action is not None and action.choices:
        return f"{wrong[1]}: {no_such_name(wrong[2], action.choices)}"
    not_numbers = re.match(r"argument ([^:]+): invalid <lambda> value: (.*)", message, re.S)
    if not_numbers:  # fairseq's options of several numbers
        message = f"argument {not_numbers[1]}: {not_numbers[2]} is neither a number nor a list of numbers"
    if message.startswith("unrecognized arguments: "):
        flags = [word.partition("=")[0] for word in message.split()[2:] if word.startswith("--")]
        near = {flag: difflib.get_close_matches(flag, parser._option_string_actions, n=1) for flag in flags}
        meant = [f"{flag}: did you mean {found[0]}?" for flag, found in near.items() if found]
        message = "; ".join([message, *meant])
    return " ".join(message.split())


def no_such_name(name: str, known: Iterable[Any], hint: str = "--help and docs/options.md list the names") -> str:
    """Return an error message for an unknown name, with a similar name, or with ``hint`` if there is none."""
    meant = difflib.get_close_matches(name, list(map(str, known)), n=1)
    hint = f"did you mean {meant[0]}?" if meant else hint
    return f"there is no {name!r}: {hint}"


def check_has_task(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """Exit with an error if no task is given to a command without a default task, such as ``fairseq-validate``.

    Args:
        parser: the command's parser.
        words: the words of the command line.
    """
    action = parser._option_string_actions.get("--task")
    asks = {"-h", "--help"} & set(words)
    if action is not None and action.default is None and not asks and not _gives_task(words):
        parser.error("--task is missing: give long_document_summarization, or the task of the checkpoint")


def _gives_task(words: Iterable[str]) -> bool:
    return any(word == "--task" or word.startswith("--task=") for word in words)


def check_options(options: Any) -> None:
    """Refuse values of options that would end in a traceback in every command.

    Args:
        options: options of the command line, or of the groups that all commands have; any may be missing.

    Raises:
        PyramidionError: an option is not usable.
    """
    from fairseq.tasks import TASK_REGISTRY

    check_numbers(options)
    parse_overrides(getattr(options, "model_overrides", "{}"))
    results = getattr(options, "results_path", None)
    if results and os.path.exists(results) and not os.path.isdir(results):
        raise PyramidionError(f"--results-path {results} is a file: give a folder for the summaries")
    task = TASK_REGISTRY.get(getattr(options, "task", None))
    if hasattr(options, "context_window") and task is not None and not hasattr(task, "eval_lm_dataloader"):
        raise PyramidionError(
            "fairseq-eval-lm is for language models, which read no document: use fairseq-validate for the loss and "
            "the perplexity of summaries"
        )
    if getattr(options, "profile", False) and (options.cpu or not torch.cuda.is_available()):
        raise PyramidionError(f"--profile needs a GPU, and {missing_gpu(options)}: omit the option")


def check_task_name(cfg: Any) -> None:
    """Refuse an unknown task. argparse checks the command line, but Hydra does not check its options.

    Args:
        cfg: the task's options.

    Raises:
        PyramidionError: no task is given, or it is unknown; the message suggests a similar name.
    """
    from fairseq.tasks import TASK_REGISTRY

    name = getattr(cfg, "task", None)
    name = name if isinstance(name, str) else getattr(cfg, "_name", None)
    if not name:
        raise PyramidionError("no task is given: with Hydra, use +task._name=long_document_summarization")
    if name not in TASK_REGISTRY:
        hint = "use --user-dir to import the package that defines it (in Python, import it first)"
        raise PyramidionError(f"task: {no_such_name(name, TASK_REGISTRY, hint)}")


def check_architecture(cfg: Any) -> None:
    """Refuse an unknown architecture in ``fairseq-hydra-train``.

    Args:
        cfg: the model's options.

    Raises:
        PyramidionError: the architecture is unknown; the message suggests a similar name.
    """
    from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY

    if "hydra" not in os.path.basename(sys.argv[0]):
        return  # the options are a checkpoint's, and the error of its loader names the file
    known = {**ARCH_MODEL_REGISTRY, **MODEL_DATACLASS_REGISTRY}
    name = getattr(cfg, "_name", None) or getattr(cfg, "arch", None)
    if name and name not in known:
        raise PyramidionError(f"architecture: {no_such_name(name, known)}")


def check_command(cfg: Any) -> None:
    """Check a command's task, processes and packages before it starts."""
    check_task(cfg, sys.argv[1:])
    if not cfg.checkpoint.save_dir:
        raise PyramidionError("--save-dir is empty: give a folder for the checkpoints")
    if cfg.checkpoint.write_checkpoints_asynchronously and importlib.util.find_spec("iopath") is None:
        # fairseq would log this, train nothing, and exit with status 0.
        raise PyramidionError("--write-checkpoints-asynchronously needs iopath: pip install iopath, or omit it")
    if getattr(cfg.task, "num_batch_buckets", 0) > 0 and numpy.lib.NumpyVersion(numpy.__version__) >= "2.0.0":
        raise PyramidionError(
            "--num-batch-buckets needs numpy 1: to pad to fewer lengths, use --required-seq-len-multiple instead"
        )
    check_options(argparse.Namespace(**{**cfg.common, **cfg.common_eval, **cfg.dataset}))
    check_criterion(cfg)
    check_processes(cfg)


def check_task(cfg: Any, words: list[str]) -> None:
    """Refuse an architecture of this package with fairseq's default task.

    Args:
        cfg: fairseq's whole configuration.
        words: the words of the command line, which may contain ``--task``.

    Raises:
        PyramidionError: no task is given; the message says which one is needed.
    """
    from fairseq.models import ARCH_MODEL_REGISTRY

    arch = getattr(cfg.model, "_name", None)
    if (
        not _gives_task(words)
        and is_our_architecture(arch)
        and cfg.task._name == "translation"
        and not cfg.task.truncate_source
    ):
        raise PyramidionError(f"--arch {arch} {ARCH_MODEL_REGISTRY[arch].needed_task}")


def check_criterion(cfg: Any) -> None:
    """Refuse the chunked loss for a model whose weights are sharded over processes.

    Args:
        cfg: fairseq's whole configuration.

    Raises:
        PyramidionError: the criterion does not work; the message lists those that do.
    """
    sharded = cfg.distributed_training.ddp_backend == "fully_sharded"
    if sharded and getattr(cfg.criterion, "_name", None) == "chunked_cross_entropy":
        raise PyramidionError(
            "--criterion chunked_cross_entropy reads the weights of the output layer, which --ddp-backend "
            "fully_sharded shards over processes: use cross_entropy or label_smoothed_cross_entropy"
        )


def is_our_architecture(arch: str | None) -> bool:
    """Return whether an architecture belongs to this package."""
    from fairseq.models import ARCH_MODEL_REGISTRY

    return getattr(ARCH_MODEL_REGISTRY.get(arch), "is_pyramidion", False)


def check_processes(cfg: Any) -> None:
    """Refuse more processes than there are GPUs. fairseq would start none and exit with 0, or divide by zero.

    Args:
        cfg: fairseq's whole configuration.

    Raises:
        PyramidionError: there are too few GPUs; the message says how many.
    """
    wanted, gpus = cfg.distributed_training, torch.cuda.device_count()
    size = wanted.distributed_world_size
    if size <= 1 or cfg.common.tpu or wanted.pipeline_model_parallel:
        return
    launched = wanted.distributed_init_method is not None or wanted.distributed_port > 0
    if (gpus == 0 or cfg.common.cpu) and not (launched and wanted.distributed_no_spawn):
        reason = "--cpu is given" if gpus else "no GPU is available"
        raise PyramidionError(
            f"{size} processes (--distributed-world-size; GPUS= of a recipe) need a GPU each, and {reason}: "
            f"{ON_A_CPU} (GPUS=0)"
        )
    if size > gpus and not launched and not is_torchrun() and not _in_slurm():
        raise PyramidionError(
            f"{size} processes (--distributed-world-size; GPUS= of a recipe) need a GPU each, and {gpus} GPUs are "
            f"available: use --distributed-world-size {gpus} (GPUS={gpus}); several nodes need torchrun or Slurm"
        )


def _in_slurm() -> bool:
    return bool(os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST"))


def check_run(cfg: Any, task: Any, *_: Any) -> None:
    """Check the options and the validation data of a training before it starts."""
    check_training(cfg)
    check_validation(cfg, task)


def check_validation(cfg: Any, task: Any) -> None:
    """Refuse documents that exceed ``--max-tokens-valid``. fairseq would fail after an epoch, before saving it.

    Args:
        cfg: fairseq's whole configuration.
        task: the task, which has loaded the validation splits.

    Raises:
        PyramidionError: a document is too long; the message says how many tokens are needed.
    """
    from ..tasks.dataset import DocumentPairDataset

    most = cfg.dataset.max_tokens_valid
    for split, dataset in task.datasets.items() if most else ():
        if not isinstance(dataset, DocumentPairDataset):
            continue  # of a task of fairseq, which may skip long documents
        longest = max(dataset.num_tokens_vec(slice(None)), default=0)
        if longest > most:
            raise PyramidionError(
                f"--max-tokens-valid {most} (by default --max-tokens): a document or summary of {split} has {longest} "
                f"tokens: use --max-tokens-valid {longest} or more"
            )


def check_training(cfg: Any) -> None:
    """Refuse options with which training would learn nothing, or fail after minutes.

    Args:
        cfg: fairseq's whole configuration.

    Raises:
        PyramidionError: an option is not usable.
    """
    check_device(cfg.common)
    check_start(cfg.checkpoint)
    check_metric(cfg)
    warn_of_late_saves(cfg)
    check_counts(cfg)
    launched = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if launched > 1 and cfg.distributed_training.distributed_world_size == 1:
        raise PyramidionError(
            f"torchrun has started {launched} processes, and each would train its own model in "
            f"{cfg.checkpoint.save_dir}: use --distributed-world-size {launched}; {ON_A_CPU}"
        )
    check_optimizer(cfg, is_our_architecture(getattr(cfg.model, "_name", None)))
