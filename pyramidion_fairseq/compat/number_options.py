"""Checks of numbers that fairseq accepts, but with which a command fails late or learns nothing."""

from __future__ import annotations

import ast
import math
from typing import Any

from fairseq.optim.lr_scheduler.manual_lr_scheduler import ManualSchedule

from ..errors import PyramidionError

#: fairseq's default learning rate, with which Adam and its variants learn nothing.
STOCK_LR = 0.25
_ADAMS = ("adam", "adamax", "cpu_adam", "fused_adamw")
#: Options of fairseq's optimizers that it evaluates as Python.
_BETAS = ("adam_betas", "adamax_betas", "lamb_betas")


def check_numbers(options: Any) -> None:
    """Refuse numbers that no command can use.

    Args:
        options: options of the command line, or of the groups ``common`` and ``dataset``; any may be missing.

    Raises:
        PyramidionError: a number is out of range.
    """
    seed, workers = getattr(options, "seed", None), getattr(options, "num_workers", None)
    if seed is not None and not 0 <= seed < 2**32:
        raise PyramidionError(f"--seed {seed}: must be from 0 to {2**32 - 1}")
    if workers is not None and workers < 0:
        raise PyramidionError(f"--num-workers {workers}: must be 0 or more; 0 loads the data in the main process")
    for documents, tokens in {"batch_size": "max_tokens", "batch_size_valid": "max_tokens_valid"}.items():
        size = getattr(options, documents, None)
        if isinstance(size, int) and size < 1 and not getattr(options, tokens, None):
            flag = "--" + documents.replace("_", "-")
            raise PyramidionError(f"{flag} {size}: must be 1 or more; otherwise all documents would be one batch")


def check_counts(cfg: Any) -> None:
    """Refuse numbers with which a run would fail late, or do nothing.

    Args:
        cfg: fairseq's whole configuration.

    Raises:
        PyramidionError: a number is out of range.
    """
    counts = list(cfg.optimization.update_freq)
    if not counts or min(counts) < 1:
        raise PyramidionError(f"--update-freq {counts}: must be 1 or more")
    for name in ("max_update", "max_epoch", "stop_time_hours"):
        most = getattr(cfg.optimization, name)
        if most < 0:
            raise PyramidionError(f"--{name.replace('_', '-')} {most}: must be 0 or more; 0 sets no limit")
    every = {"log": cfg.common, "save": cfg.checkpoint, "validate": cfg.dataset}
    for name, options in every.items():
        if getattr(options, f"{name}_interval") < 1:
            hint = {"save": "; to save nothing, use --no-save", "validate": "; to skip it, use --disable-validation"}
            raise PyramidionError(f"--{name}-interval must be at least 1{hint.get(name, '')}")
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        _check_share(name, getattr(cfg.model, name, None) or 0)
    _check_share("label_smoothing", getattr(cfg.criterion, "label_smoothing", None) or 0)


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise PyramidionError(f"--{name.replace('_', '-')} {share}: must be from 0 to 1")


def check_optimizer(cfg: Any, ours: bool) -> None:
    """Refuse a missing optimizer, and learning rates, warm-ups and betas with which it would fail or learn nothing.

    Args:
        cfg: fairseq's whole configuration.
        ours: whether the architecture belongs to this package; fairseq's default learning rate is then refused.

    Raises:
        PyramidionError: a number or a schedule is not usable.
    """
    name, rates = getattr(cfg.optimizer, "_name", None), list(cfg.optimization.lr)
    if name is None:
        raise PyramidionError("no optimizer is given: use --optimizer adam --lr 5e-4, as the paper does")
    if not rates or not all(0 <= rate < math.inf for rate in rates):  # also where one is NaN
        raise PyramidionError(f"--lr {rates}: must be a positive number, such as --lr 5e-4 (the paper's)")
    if rates == [STOCK_LR] and name in _ADAMS and ours:
        raise PyramidionError(
            f"the learning rate is fairseq's default of {STOCK_LR}, with which {name} learns nothing: "
            "use --lr 5e-4 (the paper's), with Hydra optimization.lr=[5e-4]"
        )
    if name == "composite" and not getattr(cfg.optimizer, "groups", None):
        raise PyramidionError(
            "--optimizer composite needs groups of parameters, which can be given only with Hydra "
            "(optimizer.groups): use adam"
        )
    _check_schedule(cfg.lr_scheduler, cfg.optimization.max_update)
    for option in _BETAS:
        betas, flag = getattr(cfg.optimizer, option, None), "--" + option.replace("_", "-")
        if betas is not None and not _are_betas(betas):
            raise PyramidionError(f"{flag} {betas}: must be two numbers in [0, 1), such as {flag} '(0.9, 0.98)'")


def _check_schedule(schedule: Any, updates: int) -> None:
    """Refuse a schedule that divides by zero, has no updates left to decay in, or has no readable rates."""
    name, warmup = getattr(schedule, "_name", None), getattr(schedule, "warmup_updates", 0)
    if name == "inverse_sqrt" and warmup < 1:
        raise PyramidionError(f"--warmup-updates {warmup}: must be 1 or more with --lr-scheduler inverse_sqrt")
    ends = {
        "cosine": ("--max-update", updates if getattr(schedule, "lr_period_updates", 1) <= 0 else 0),
        "polynomial_decay": ("--total-num-update", getattr(schedule, "total_num_update", 0)),
    }
    option, end = ends.get(str(name), ("", 0))
    if 0 < end <= warmup:
        raise PyramidionError(
            f"--warmup-updates {warmup} must be less than {option} {end:.0f}, or --lr-scheduler {name} cannot decay"
        )
    if name == "manual":
        _check_manual_rates(schedule)


def _check_manual_rates(schedule: Any) -> None:
    """Refuse learning rates of ``--lr-scheduler manual`` that cannot be parsed."""
    for option in ("epoch2lr", "update2lr"):
        text = getattr(schedule, option)
        try:
            ManualSchedule.parse_manuallr_args(None, text)
        except (ValueError, TypeError, SyntaxError, LookupError, MemoryError, RecursionError) as error:
            raise PyramidionError(
                f"--{option} {text}: must be a dictionary from quoted numbers to learning rates, such as --{option} "
                "\"{'1-3': 1e-3, '4': 5e-4}\""
            ) from error


def _are_betas(betas: Any) -> bool:
    """Return whether betas, or their text, are two numbers in [0, 1)."""
    try:
        first, second = ast.literal_eval(betas.strip()) if isinstance(betas, str) else betas
        return 0 <= first < 1 and 0 <= second < 1
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
