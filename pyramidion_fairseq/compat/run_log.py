"""The log of a command with our task on one screen: what is said of the run, and what is left out.

``--verbose`` (in Hydra ``task.verbose=true``) leaves everything as fairseq has it. Warnings and errors of fairseq are
never left out.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from typing import Any, Callable

import torch
from omegaconf import OmegaConf
from torch import nn

from ..errors import is_fairseq_command
from ..utils.bf16 import autocasts_to_bf16, warn_of_slow_bf16
from ..utils.files import atomic_write
from ..utils.quiet import OF_THE_DECODER, WARNINGS, leave_out
from .checkpoint_options import begin_of
from .marks import mark

logger = logging.getLogger(__name__)

#: Where the configuration and the model of a run are written, in --save-dir.
RUN_FILE = "run.txt"
#: {logger: beginnings of messages of level INFO that are left out}.
NOISE = {
    "fairseq_cli.train": (
        *("task: ", "model: ", "criterion: ", "num. shared", "num. expert", "training on ", "max tokens per device"),
        *("begin dry-run validation", "Start iterating", "begin validation", "end of epoch"),
    ),
    "fairseq_cli.generate": (),
    "fairseq_cli.interactive": (),
    "fairseq_cli.validate": (),
    "fairseq.tasks.translation": ("",),
    "fairseq.tasks.fairseq_task": ("",),
    "fairseq.data.data_utils": ("loaded ",),
    "fairseq.data.iterators": ("grouped total_num_itrs",),
    "fairseq.checkpoint_utils": ("Preparing to save checkpoint",),
    "fairseq.trainer": (
        *("detected shared parameter", "Preparing to load checkpoint", "No existing checkpoint", "loading train data"),
        *("begin training epoch", "Saving checkpoint to", "Finished saving checkpoint"),
    ),
}
#: {what fairseq warns of once in every epoch and validation: what is said of it, once}.
ONCE = {
    "tensorboard not found": "--tensorboard-logdir writes nothing, as tensorboard is not installed: "
    'pip install "pyramidion_fairseq[logging]"',
    "wandb not found": "--wandb-project sends nothing, as wandb is not installed: pip install wandb",
}


class _Quiet(logging.Filter):
    """Leaves out a logger's noise, from when a configuration with our task has been logged."""

    #: Whether the command that runs is a quiet one.
    active = False

    def __init__(self, beginnings: tuple[str, ...]):
        super().__init__()
        self.beginnings = beginnings

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        message: Any = record.msg
        if OmegaConf.is_config(message):  # the first thing that a command of fairseq logs
            task = message.get("task")
            _Quiet.active = is_ours(task) and not is_verbose(task)
            return not _Quiet.active
        if not _Quiet.active or record.levelno > logging.INFO:
            return True
        return not (isinstance(message, nn.Module) or str(message).startswith(self.beginnings))


class _Once(logging.Filter):
    """Says once what fairseq says again and again, with what to type."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        found = next((begin for begin in ONCE if str(record.msg).startswith(begin)), None)
        if found is None:
            return True
        first = found not in self.logged
        self.logged.add(found)
        record.msg = ONCE[found]
        return first


def is_ours(task: Any) -> bool:
    """Return whether a task's options are of ours, or of one that extends it."""
    from fairseq.tasks import TASK_REGISTRY

    from ..tasks import LongDocumentSummarizationTask

    cls = TASK_REGISTRY.get(getattr(task, "_name", None))
    return cls is not None and issubclass(cls, LongDocumentSummarizationTask)


def is_verbose(task: Any) -> bool:
    """Return whether everything is to be logged; ``task`` is the task's configuration, of older checkpoints too."""
    return bool(getattr(task, "verbose", None))


def install() -> None:
    """Filter what fairseq's loggers say, and have the trainer say what runs. Calling it again does nothing."""
    from fairseq import trainer

    if getattr(trainer.Trainer.__init__, "tells_of_the_run", False):
        return
    for name, beginnings in NOISE.items():
        logging.getLogger(name).addFilter(_Quiet(beginnings))
    logging.getLogger("fairseq.logging.progress_bar").addFilter(_Once())
    trainer.Trainer.__init__ = _telling(trainer.Trainer.__init__)
    trainer.Trainer.begin_epoch = _writing(trainer.Trainer.begin_epoch)
    if "--verbose" not in sys.argv:
        leave_out(*(WARNINGS if is_fairseq_command() else [OF_THE_DECODER]))


def _telling(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def init(self: Any, cfg: Any, task: Any, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        stock(self, cfg, task, model, *args, **kwargs)
        if _is_told(self):
            for line in summary(cfg, task, model, self.device):
                logger.info(line)
            if cfg.common.bf16:
                warn_of_slow_bf16("--bf16", self.device)
            elif getattr(cfg.task, "autocast", "none") == "bf16":
                warn_of_slow_bf16("--autocast bf16", self.device)

    return mark(init, "tells_of_the_run")


def _writing(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``begin_epoch``: write ``run.txt`` before the first epoch, after a misfit checkpoint was refused."""

    @functools.wraps(stock)
    def begin_epoch(self: Any, *args: Any, **kwargs: Any) -> None:
        if _is_told(self) and not getattr(self, "run_is_written", False):
            write_run(self.cfg, self.get_model())
            self.run_is_written = True
        stock(self, *args, **kwargs)

    return begin_epoch


def _is_told(trainer: Any) -> bool:
    """Return whether a trainer has our task, and is the one of its processes that logs."""
    return is_ours(trainer.cfg.task) and trainer.is_data_parallel_master


def summary(cfg: Any, task: Any, model: nn.Module, device: torch.device) -> list[str]:
    """Return what a user wants to see of a run before it begins: data, model, device, batch, where it saves.

    Args:
        cfg: fairseq's whole configuration.
        task: whose dictionaries are read.
        model: whose parameters are counted.
        device: that it is trained on.
    """
    source, target = task.max_positions()
    options, processes = cfg.model, max(1, cfg.distributed_training.distributed_world_size)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    layers = f"{getattr(options, 'encoder_layers', '?')}+{getattr(options, 'decoder_layers', '?')} layers"
    width, pooling = getattr(options, "encoder_embed_dim", "?"), getattr(options, "pooling_schedule", "")
    half = next((name for name in ("fp16", "bf16", "amp") if getattr(cfg.common, name)), "float32")
    autocast = getattr(cfg.task, "autocast", "none")
    limits = {"documents": cfg.dataset.batch_size, "tokens": cfg.dataset.max_tokens}
    batch = [f"{most:,} {what}" for what, most in limits.items() if most is not None]
    return [
        f"data: {cfg.task.data}, {len(task.source_dictionary):,} pieces; documents of up to {source} tokens, "
        f"summaries of up to {target}",
        f"model: {getattr(options, '_name', '?')}, {layers} of width {width}, pooling {pooling or 'none'}; "
        f"{parameters:,} parameters",
        f"device: {device}, {processes} process{'es' * (processes > 1)}; precision: {half}"
        + (" with bf16 products" if autocasts_to_bf16(autocast, device) else ""),
        f"batch: at most {' and '.join(batch)} in a process, "
        f"{', '.join(map(str, cfg.optimization.update_freq))} times an update; seed {cfg.common.seed}",
        f"saves in {cfg.checkpoint.save_dir} ({RUN_FILE}: the configuration and the model); {begin(cfg.checkpoint)}",
    ]


def begin(cfg: Any) -> str:
    """Return what a run begins with, as fairseq chooses it: a checkpoint, the weights of one, or nothing.

    Args:
        cfg: options of checkpoints.
    """
    path = begin_of(cfg)
    if os.path.exists(path):
        return f"goes on from {path}"
    if cfg.finetune_from_model is not None:
        return f"starts from the weights of {cfg.finetune_from_model}"
    once = getattr(cfg, "continue_once", None)
    return f"starts anew: no {path}" if once is None else f"goes on from {once}"


def write_run(cfg: Any, model: nn.Module) -> None:
    """Write the configuration and the model beside the checkpoints; where that fails, saving them will say so."""
    path = os.path.join(cfg.checkpoint.save_dir, RUN_FILE)
    try:
        with atomic_write(path, f"{path}.tmp") as file:
            file.write(f"{cfg}\n\n{model}\n".encode("utf-8", "backslashreplace"))
    except OSError as error:
        logger.warning(f"{path} cannot be written: {error}")
