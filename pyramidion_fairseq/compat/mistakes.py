"""Mistakes in what a user typed that stock fairseq ends with a traceback, a page of usage, or nothing at all.

Here each ends with one line that says what to type: docs/troubleshooting.md lists them.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import importlib.util
import math
import os
import re
import sys
from typing import Any, Callable, Iterable

import numpy
import torch

from ..errors import PyramidionError
from .checkpoint_options import check_metric, check_start
from .marks import mark

#: fairseq's default, with which an optimizer of Adam's kind trains to nothing.
STOCK_LR = 0.25
_ADAMS = ("adam", "adamax", "cpu_adam", "fused_adamw")
#: Options of fairseq's optimizers that it evaluates as Python.
_BETAS = ("adam_betas", "adamax_betas", "lamb_betas")
_TORCHRUN = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
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
        return stock(parser, input_args, *args, **kwargs)

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


def no_such_name(name: str, known: Iterable[Any]) -> str:
    """Return the line that there is no such name, and which one may be meant."""
    meant = difflib.get_close_matches(name, list(map(str, known)), n=1)
    hint = f"did you mean {meant[0]}?" if meant else "--help and docs/options.md list the names"
    return f"there is no {name!r}: {hint}"


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
        raise PyramidionError(f"task: {no_such_name(name, TASK_REGISTRY)}")


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

    given = any(word == "--task" or word.startswith("--task=") for word in words)
    arch = getattr(cfg.model, "_name", None)
    if not given and is_ours(arch) and cfg.task._name == "translation" and not cfg.task.truncate_source:
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
    torchrun = all(name in os.environ for name in _TORCHRUN)
    if gpus == 0 and not (launched and wanted.distributed_no_spawn):
        raise PyramidionError(
            f"{size} processes (--distributed-world-size; GPUS= of a recipe), one for each GPU, and no GPU is there: "
            f"{ON_A_CPU} (GPUS=0)"
        )
    if size > gpus and not launched and not torchrun and not _in_slurm():
        raise PyramidionError(
            f"{size} processes (--distributed-world-size; GPUS= of a recipe), one for each GPU, and {gpus} GPUs are "
            f"there: --distributed-world-size {gpus} (GPUS={gpus}); several nodes need torchrun or Slurm"
        )


def _in_slurm() -> bool:
    return bool(os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST"))


def _check_counts(cfg: Any) -> None:
    """Refuse numbers with which a run ends later."""
    counts = list(cfg.optimization.update_freq)
    if not counts or min(counts) < 1:
        raise PyramidionError(f"--update-freq {counts}: an update has at least 1 batch")
    every = {"log": cfg.common, "save": cfg.checkpoint, "validate": cfg.dataset}
    for name, options in every.items():
        if getattr(options, f"{name}_interval") < 1:
            hint = {"save": "; --no-save saves nothing", "validate": "; --disable-validation leaves it out"}
            raise PyramidionError(f"--{name}-interval must be at least 1{hint.get(name, '')}")
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        if not 0 <= (getattr(cfg.model, name, None) or 0) <= 1:
            raise PyramidionError(f"--{name.replace('_', '-')} {getattr(cfg.model, name)} is no number from 0 to 1")


def _check_optimizer(cfg: Any) -> None:
    """Refuse learning rates, warm-ups and betas with which an optimizer cannot be built, or would learn nothing."""
    name, rates = getattr(cfg.optimizer, "_name", None), list(cfg.optimization.lr)
    if not rates or not all(0 <= rate < math.inf for rate in rates):  # also where one is NaN
        raise PyramidionError(f"--lr {rates}: a learning rate above 0 is needed, as --lr 5e-4 (the paper's)")
    if rates == [STOCK_LR] and name in _ADAMS and is_ours(getattr(cfg.model, "_name", None)):
        raise PyramidionError(
            f"the learning rate is fairseq's default of {STOCK_LR}, with which {name} trains to nothing: "
            "--lr 5e-4 (the paper's), with Hydra optimization.lr=[5e-4]"
        )
    schedule = cfg.lr_scheduler
    if getattr(schedule, "_name", None) == "inverse_sqrt" and schedule.warmup_updates < 1:
        raise PyramidionError(
            f"--warmup-updates {schedule.warmup_updates}: --lr-scheduler inverse_sqrt divides by it, 1 is the least"
        )
    for option in _BETAS:
        betas, flag = getattr(cfg.optimizer, option, None), "--" + option.replace("_", "-")
        if betas is not None and not _are_betas(betas):
            raise PyramidionError(f"{flag} {betas}: two numbers from 0 to below 1 are needed, as {flag} '(0.9, 0.98)'")


def _are_betas(betas: Any) -> bool:
    """Return whether betas, or the text of them, are two numbers in [0, 1)."""
    try:
        first, second = ast.literal_eval(betas.strip()) if isinstance(betas, str) else betas
        return 0 <= first < 1 and 0 <= second < 1
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False


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
    common = cfg.common
    on_a_cpu = common.cpu or not torch.cuda.is_available()
    if common.fp16 and on_a_cpu and not (common.memory_efficient_fp16 or common.tpu):
        raise PyramidionError(
            "--fp16 needs a GPU, and "
            + ("--cpu is given" if common.cpu else "none is there")
            + ": leave it out (PRECISION=full of a recipe), or use --autocast auto"
        )
    check_start(cfg.checkpoint)
    check_metric(cfg)
    _check_counts(cfg)
    launched = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if launched > 1 and cfg.distributed_training.distributed_world_size == 1:
        raise PyramidionError(
            f"torchrun has started {launched} processes, and each would train a model of its own in "
            f"{cfg.checkpoint.save_dir}: --distributed-world-size {launched}; {ON_A_CPU}"
        )
    _check_optimizer(cfg)
