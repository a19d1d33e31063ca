"""A short log for commands with this package's task: a summary of the run, and filters for fairseq's messages.

``--verbose`` (in Hydra ``task.verbose=true``) logs everything as fairseq does. Warnings and errors of fairseq are
never hidden.
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
from .checkpoint_options import starting_checkpoint
from .marks import mark

logger = logging.getLogger(__name__)

#: File in --save-dir to which the configuration and the model of a run are written.
RUN_FILE = "run.txt"
#: {logger: prefixes of messages of level INFO that are hidden}.
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
#: {prefix of a warning that fairseq repeats in every epoch and validation: message that is logged once instead}.
ONCE = {
    "tensorboard not found": "--tensorboard-logdir has no effect, because tensorboard is not installed: "
    'pip install "pyramidion_fairseq[logging]"',
    "wandb not found": "--wandb-project has no effect, because wandb is not installed: pip install wandb",
}


class _Quiet(logging.Filter):
    """Hides messages of a logger after a configuration with this package's task was logged."""

    #: Whether messages of the current command are hidden.
    active = False

    def __init__(self, prefixes: tuple[str, ...]):
        super().__init__()
        self.prefixes = prefixes

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        message: Any = record.msg
        if OmegaConf.is_config(message):  # the first record of a command of fairseq
            task = message.get("task")
            _Quiet.active = is_our_task(task) and not is_verbose(task)
            return not _Quiet.active
        if not _Quiet.active or record.levelno > logging.INFO:
            return True
        return not (isinstance(message, nn.Module) or str(message).startswith(self.prefixes))


class _Once(logging.Filter):
    """Logs repeated warnings of fairseq once, with what to do."""

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


def is_our_task(task: Any) -> bool:
    """Return whether options belong to this package's task or to a subclass."""
    from fairseq.tasks import TASK_REGISTRY

    from ..tasks import LongDocumentSummarizationTask

    cls = TASK_REGISTRY.get(getattr(task, "_name", None))
    return cls is not None and issubclass(cls, LongDocumentSummarizationTask)


def is_verbose(task: Any) -> bool:
    """Return the option ``verbose`` of a task's configuration, which older checkpoints lack."""
    return bool(getattr(task, "verbose", None))


def install() -> None:
    """Filter fairseq's messages, and make the trainer log a summary of the run. Further calls do nothing."""
    from fairseq import trainer

    if getattr(trainer.Trainer.__init__, "tells_of_the_run", False):
        return
    for name, prefixes in NOISE.items():
        logging.getLogger(name).addFilter(_Quiet(prefixes))
    logging.getLogger("fairseq.logging.progress_bar").addFilter(_Once())
    trainer.Trainer.__init__ = _log_summary_after(trainer.Trainer.__init__)
    trainer.Trainer.begin_epoch = _write_run_before(trainer.Trainer.begin_epoch)
    if "--verbose" not in sys.argv:
        leave_out(*(WARNINGS if is_fairseq_command() else [OF_THE_DECODER]))


def _log_summary_after(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the trainer's ``__init__`` to log the summary of the run after it."""

    @functools.wraps(stock)
    def init(self: Any, cfg: Any, task: Any, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        stock(self, cfg, task, model, *args, **kwargs)
        if _logs_run(self):
            for line in summary(cfg, task, model, self.device):
                logger.info(line)
            if cfg.common.bf16:
                warn_of_slow_bf16("--bf16", self.device)
            elif getattr(cfg.task, "autocast", "none") == "bf16":
                warn_of_slow_bf16("--autocast bf16", self.device)

    return mark(init, "tells_of_the_run")


def _write_run_before(stock: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``begin_epoch`` to write ``run.txt`` before the first epoch, when the checkpoint has been accepted."""

    @functools.wraps(stock)
    def begin_epoch(self: Any, *args: Any, **kwargs: Any) -> None:
        if _logs_run(self) and not getattr(self, "run_is_written", False):
            write_run(self.cfg, self.get_model())
            self.run_is_written = True
        stock(self, *args, **kwargs)

    return begin_epoch


def _logs_run(trainer: Any) -> bool:
    """Return whether a trainer has this package's task, and runs in the process that logs."""
    return is_our_task(trainer.cfg.task) and trainer.is_data_parallel_master


def summary(cfg: Any, task: Any, model: nn.Module, device: torch.device) -> list[str]:
    """Return the lines that summarise a run: data, model, device, batch and checkpoints.

    Args:
        cfg: fairseq's whole configuration.
        task: the task, with its dictionaries.
        model: the model, whose parameters are counted.
        device: the device of the training.
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
        f"batch: at most {' and '.join(batch)} per process, "
        f"--update-freq {', '.join(map(str, cfg.optimization.update_freq))}; seed {cfg.common.seed}",
        f"checkpoints: {cfg.checkpoint.save_dir} ({RUN_FILE}: configuration and model); "
        + describe_start(cfg.checkpoint),
    ]


def describe_start(cfg: Any) -> str:
    """Return how fairseq starts a run: from a checkpoint, from the weights of one, or from scratch.

    Args:
        cfg: the options of checkpoints.
    """
    path = starting_checkpoint(cfg)
    if os.path.exists(path):
        return f"continues from {path}"
    if cfg.finetune_from_model is not None:
        return f"starts from the weights of {cfg.finetune_from_model}"
    once = getattr(cfg, "continue_once", None)
    return f"starts from scratch: no {path}" if once is None else f"continues from {once}"


def write_run(cfg: Any, model: nn.Module) -> None:
    """Write the configuration and the model next to the checkpoints. A failure is logged as a warning."""
    path = os.path.join(cfg.checkpoint.save_dir, RUN_FILE)
    try:
        with atomic_write(path, f"{path}.tmp") as file:
            file.write(f"{cfg}\n\n{model}\n".encode("utf-8", "backslashreplace"))
    except OSError as error:
        logger.warning(f"{path} cannot be written: {error}")
