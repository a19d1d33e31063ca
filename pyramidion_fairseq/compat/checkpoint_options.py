"""Checks of checkpoint options that make fairseq start from scratch, keep the worst checkpoint, or fail late."""

from __future__ import annotations

import difflib
import glob
import logging
import os
from typing import Any

from ..errors import PyramidionError
from ..scoring.rouge import METRICS
from .whole_checkpoints import LAST

logger = logging.getLogger(__name__)

_RESETS = ("reset_optimizer", "reset_lr_scheduler", "reset_meters", "reset_dataloader")
_REMEDY = "give the path of a checkpoint, or omit the option to start from scratch"
#: Criteria whose metrics in validation are known.
_CRITERIA = ("cross_entropy", "label_smoothed_cross_entropy", "chunked_cross_entropy")


def check_start(cfg: Any) -> None:
    """Refuse a missing checkpoint, or a folder in its place: fairseq would silently start from scratch.

    Args:
        cfg: the options of checkpoints.

    Raises:
        PyramidionError: a checkpoint does not exist, or options exclude each other.
    """
    start, base, once = starting_checkpoint(cfg), cfg.finetune_from_model, getattr(cfg, "continue_once", None)
    parts = glob.glob(glob.escape(start.removesuffix(".pt")) + "*.pt")  # one file per process, if the model is sharded
    if cfg.restore_file != LAST and not _is_there(start) and (os.path.isdir(start) or not parts):
        raise PyramidionError(f"--restore-file {start} {_fault(start)}: {_REMEDY}")
    if once is not None and cfg.restore_file == LAST and not (_is_there(start) or _is_there(once)):
        raise PyramidionError(f"--continue-once {once} {_fault(once)}: {_REMEDY}")
    if base is None:
        return
    others = ["restore_file"] if cfg.restore_file != LAST else []
    others += ["continue_once"] if once is not None else []
    others += [name for name in _RESETS if getattr(cfg, name)]
    if others:
        raise PyramidionError(
            f"--finetune-from-model excludes --{others[0].replace('_', '-')}: it loads only the weights of its file, "
            "and resets the rest"
        )
    if glob.glob(os.path.join(glob.escape(cfg.save_dir), "checkpoint_last*.pt")):
        logger.info(
            f"--finetune-from-model {base} is ignored: the run in {cfg.save_dir} continues; to fine-tune again, use "
            "another --save-dir"
        )
    elif not _is_there(base):
        raise PyramidionError(
            f"--finetune-from-model {base} {_fault(base)}: train that model first, or give the path of its checkpoint"
        )


def starting_checkpoint(cfg: Any) -> str:
    """Return the path of the checkpoint that a run continues from if it exists.

    Args:
        cfg: the options of checkpoints.
    """
    file = cfg.restore_file.replace(".pt", f"{cfg.checkpoint_suffix or ''}.pt")
    return os.path.join(cfg.save_dir, file) if cfg.restore_file == LAST else file


def _is_there(path: str) -> bool:
    return os.path.isfile(path) or "://" in path


def _fault(path: str) -> str:
    """Return what is wrong with the path of a checkpoint."""
    return "is a folder, not a checkpoint" if os.path.isdir(path) else "does not exist"


def check_metric(cfg: Any) -> None:
    """Refuse a ``--best-checkpoint-metric`` that validation does not log, and ROUGE if it is not maximised.

    fairseq would fail after the first epoch before saving it, and would silently keep the worst checkpoint.

    Args:
        cfg: fairseq's whole configuration.

    Raises:
        PyramidionError: the metric is not usable; the message says what to use instead.
    """
    metric, rouge = cfg.checkpoint.best_checkpoint_metric, getattr(cfg.task, "eval_rouge", False)
    if cfg.dataset.disable_validation:
        return
    if metric in METRICS and not rouge:
        raise PyramidionError(
            f"--best-checkpoint-metric {metric} needs --eval-rouge (and --maximize-best-checkpoint-metric)"
        )
    if metric in METRICS and not cfg.checkpoint.maximize_best_checkpoint_metric:
        raise PyramidionError(
            f"--best-checkpoint-metric {metric} needs --maximize-best-checkpoint-metric: otherwise the lowest is kept"
        )
    known = logged_in_validation(cfg)
    if known and metric not in known:
        near = difflib.get_close_matches(metric.lower(), [*known, *METRICS], n=1)
        hint = f"; did you mean {near[0]}?" if near and near[0] != metric else ""
        raise PyramidionError(f"--best-checkpoint-metric {metric}: validation logs {', '.join(known)}{hint}")


def warn_of_late_saves(cfg: Any) -> None:
    """Warn that ``--save-interval-updates`` has no effect before ``--validate-after-updates``.

    Args:
        cfg: fairseq's whole configuration.
    """
    first, every = cfg.dataset.validate_after_updates, cfg.checkpoint.save_interval_updates
    if 0 < every < first and not cfg.checkpoint.no_save:
        logger.warning(
            f"--validate-after-updates {first}: until then, fairseq saves no checkpoint within an epoch, despite "
            f"--save-interval-updates {every}"
        )


def logged_in_validation(cfg: Any) -> list[str]:
    """Return the metrics that validation logs; an empty list if the task or the criterion is not known.

    Args:
        cfg: fairseq's whole configuration.
    """
    name = getattr(cfg.criterion, "_name", None)
    if not hasattr(cfg.task, "eval_rouge") or name not in _CRITERIA:
        return []
    smoothed = name != "cross_entropy"
    return [
        "loss",
        "ppl",
        *(["nll_loss"] if smoothed or cfg.criterion.sentence_avg else []),
        *(["accuracy"] if getattr(cfg.criterion, "report_accuracy", False) else []),
        *(["bleu"] if cfg.task.eval_bleu else []),
        *(METRICS if cfg.task.eval_rouge else []),
    ]
