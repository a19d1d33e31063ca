"""Checkpoints of fairseq's trainer that survive killed processes, full disks and damage.

Stock fairseq copies a checkpoint to ``checkpoint_best.pt`` and ``checkpoint_last.pt`` in place. If it is killed during
the copy, the file is truncated, and the next start fails with an error of torch. Here every file is written to a
temporary name and renamed. If ``checkpoint_last.pt`` is damaged nevertheless, the run continues from the newest whole
checkpoint. A folder is locked while a run saves to it.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any, Iterator

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager

from ..errors import PyramidionError
from ..utils.files import atomic_write, lock

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"
#: {folder: file descriptor of its lock} for the folders that this process saves to.
_held: dict[str, int] = {}


class CheckpointNotWrittenError(PyramidionError):
    """A checkpoint could not be written; earlier ones are unchanged."""


def install() -> None:
    """Make fairseq's trainer write and find whole checkpoints. Further calls do nothing."""
    if checkpoint_utils.PathManager is _AtomicCopies:
        return
    checkpoint_utils.PathManager = _AtomicCopies
    checkpoint_utils.torch_persistent_save = _writer(checkpoint_utils.torch_persistent_save)
    checkpoint_utils.load_checkpoint = _loader(checkpoint_utils.load_checkpoint)
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=_release_locks)


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a complete archive of ``torch.save`` with correct checksums.

    Nothing in it is executed. The result is False for files in the format of torch before 1.6, which has no checksums.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist()) and archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError):
        return False


def newest_whole(folder: str | os.PathLike[str], other_than: str) -> str | None:
    """Return the path of the newest whole checkpoint in ``folder`` that is not named ``other_than``; None without one.

    ``crash.pt``, which fairseq writes when training fails, is not considered.
    """
    files = [path for path in Path(folder).glob("checkpoint*.pt") if path.name != other_than]
    newest_first = sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    return next((str(path) for path in newest_first if is_whole(path)), None)


class _AtomicCopies(PathManager):
    """fairseq's PathManager with atomic copies of local files."""

    @staticmethod
    def copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if PathManager.path_requires_pathmanager(dst_path):
            return PathManager.copy(src_path, dst_path, overwrite=overwrite)
        with (
            _convert_errors(dst_path),
            atomic_write(dst_path, f"{dst_path}.tmp") as target,
            open(src_path, "rb") as source,
        ):
            shutil.copyfileobj(source, target, 2**24)
        return True


@contextlib.contextmanager
def _convert_errors(path: str) -> Iterator[None]:
    """Convert errors of a failed write to a ``CheckpointNotWrittenError``."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError after the OSError of a full disk
        cause: BaseException = error
        while cause.__context__ is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        reason = getattr(cause, "strerror", None) or " ".join(str(error).split())[:200]
        raise CheckpointNotWrittenError(
            f"cannot write {path} ({reason}); earlier checkpoints in {os.path.dirname(path) or '.'} are unchanged: "
            f"free some space, then run the command again{_continuation(os.path.dirname(path) or '.')}"
        ) from None


def _continuation(folder: str) -> str:
    """Return how to continue from the checkpoints of a folder, as the end of a sentence."""
    if any(Path(folder).glob("checkpoint_last*.pt")):
        return " to continue from the last one"
    other = newest_whole(folder, LAST)
    return f" with --restore-file {other} to continue from it" if other else ", which starts from scratch"


def _writer(stock: Any) -> Any:
    def torch_persistent_save(obj: Any, filename: str, async_write: bool = False) -> None:
        """Save as fairseq does, but sync local files to the disk before they get their final name."""
        if async_write or PathManager.path_requires_pathmanager(filename):
            return stock(obj, filename, async_write=async_write)
        with _convert_errors(filename), atomic_write(filename, f"{filename}.tmp") as file:
            torch.save(obj, file)
        return None

    return torch_persistent_save


def _loader(stock: Any) -> Any:
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough_args: Any) -> Any:
        """Load a checkpoint as fairseq does, or the newest whole one if ``checkpoint_last.pt`` is damaged.

        Raises:
            PyramidionError: the checkpoint is of another model, or another run saves to the folder.
        """
        if distributed_utils.get_global_rank() == 0 and not getattr(cfg, "no_save", False):
            _hold(cfg.save_dir)
        try:
            return stock(_with_whole_file(cfg, trainer.checkpoint_suffix), trainer, **passthrough_args)
        except Exception as error:  # fairseq raises a plain Exception
            if not str(error).startswith("Cannot load model parameters from checkpoint"):
                raise
            reason = " ".join(str(error.__context__).split())[:300]
            raise PyramidionError(
                f"{' '.join(str(error).split())} Its model does not match the options: {reason}"
            ) from None

    return load_checkpoint


def _hold(folder: str) -> None:
    """Lock a folder until this process ends, without writing to it. Folders that cannot be locked are skipped.

    Raises:
        PyramidionError: another process holds the lock.
    """
    if sys.platform == "win32" or not os.path.isdir(folder) or os.path.realpath(folder) in _held:
        return
    file = lock(folder)
    if file is None:
        raise PyramidionError(
            f"another run saves to {folder}, and two runs would overwrite each other's checkpoints: wait for it, stop "
            "it, or use another --save-dir"
        )
    _held[os.path.realpath(folder)] = file


def _release_locks() -> None:
    """Close the locks in a forked process. Otherwise the workers of a killed run would keep them."""
    for file in _held.values():
        os.close(file)
    _held.clear()


def _with_whole_file(cfg: Any, suffix: str) -> Any:
    """Return the options, with another file to restore if the last checkpoint is damaged.

    Every process checks the file itself, before the first one reads it and sends it to the others.

    Raises:
        PyramidionError: the last checkpoint is damaged, and there is no other one.
    """
    last = os.path.join(cfg.save_dir, LAST)
    if cfg.restore_file != LAST or suffix or PathManager.path_requires_pathmanager(last):
        return cfg  # a file that the user has named is never replaced, nor are shards
    if not os.path.exists(last):
        other = newest_whole(cfg.save_dir, LAST) if os.path.isdir(cfg.save_dir) else None
        if other and cfg.finetune_from_model is None:
            logger.warning(f"no {last}: training starts from scratch; to continue, use --restore-file {other}")
        return cfg
    if is_whole(last) or _is_old_format(last):
        return cfg
    other = newest_whole(cfg.save_dir, LAST)
    if other is None:
        raise PyramidionError(
            f"{last} is damaged and there is no other whole checkpoint in {cfg.save_dir}: replace it by a copy, or "
            "remove it to start from scratch"
        )
    logger.warning(f"{last} is damaged; continuing from {other}, the newest whole checkpoint")
    cfg = copy.deepcopy(cfg)
    cfg.restore_file, cfg.finetune_from_model = other, None
    return cfg


def _is_old_format(path: str) -> bool:
    """Return whether a file has the format of torch before 1.6, whose damage is found only when it is read."""
    with open(path, "rb") as file:
        return file.read(2) == b"\x80\x02"
