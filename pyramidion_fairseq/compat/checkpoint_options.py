"""Options of checkpoints with which a run would start anew without a word."""

from __future__ import annotations

import glob
import logging
import os
from typing import Any

from ..errors import PyramidionError
from .whole_checkpoints import LAST

logger = logging.getLogger(__name__)

_RESETS = ("reset_optimizer", "reset_lr_scheduler", "reset_meters", "reset_dataloader")


def check_start(cfg: Any) -> None:
    """Refuse files to start from that are none: fairseq starts anew without a word, also where one is a folder.

    Args:
        cfg: options of checkpoints.

    Raises:
        PyramidionError: a file is not there, or options exclude each other.
    """
    restore, base = cfg.restore_file, cfg.finetune_from_model
    parts = glob.glob(glob.escape(restore.removesuffix(".pt")) + "*.pt")  # of a model that is spread over processes
    if restore != LAST and not _is_there(restore) and (os.path.isdir(restore) or not parts):
        raise PyramidionError(
            f"--restore-file {restore} {_fault(restore)}: leave it out to start anew, or say where it is"
        )
    if base is None:
        return
    others = ["restore_file"] if restore != LAST else []
    others += [name for name in _RESETS if getattr(cfg, name)]
    if others:
        raise PyramidionError(
            f"--finetune-from-model excludes --{others[0].replace('_', '-')}: it takes weights alone from its file, "
            "and resets the rest"
        )
    if glob.glob(os.path.join(glob.escape(cfg.save_dir), "checkpoint_last*.pt")):
        logger.info(
            f"--finetune-from-model {base} is not read: the run in {cfg.save_dir} goes on; to fine-tune anew, another "
            "--save-dir"
        )
    elif not _is_there(base):
        raise PyramidionError(
            f"--finetune-from-model {base} {_fault(base)}: train that model first, or say where it is"
        )


def _is_there(path: str) -> bool:
    return os.path.isfile(path) or "://" in path


def _fault(path: str) -> str:
    """Return what is wrong with the path of a checkpoint."""
    return "is a folder, not a checkpoint" if os.path.isdir(path) else "is not there"
