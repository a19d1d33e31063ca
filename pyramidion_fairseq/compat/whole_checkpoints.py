"""Checkpoints of fairseq's trainer that survive kills, full disks and damage.

Stock fairseq copies a checkpoint to ``checkpoint_best.pt`` and ``checkpoint_last.pt`` in place: killed meanwhile, it
leaves a torso, and the next start ends in torch's error. Here every file is written beside its place and renamed, and
a run whose ``checkpoint_last.pt`` is damaged all the same continues from the newest whole checkpoint. A second run is
kept out of a folder while one trains into it.
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
#: {folder: its open file, which is locked}, of the folders that this process trains into.
_held: dict[str, int] = {}


class CheckpointNotWrittenError(PyramidionError):
    """A checkpoint could not be written; those before it are as they were."""


def install() -> None:
    """Make fairseq's trainer write and find whole checkpoints. Calling it again does nothing."""
    if checkpoint_utils.PathManager is _AtomicCopies:
        return
    checkpoint_utils.PathManager = _AtomicCopies
    checkpoint_utils.torch_persistent_save = _writer(checkpoint_utils.torch_persistent_save)
    checkpoint_utils.load_checkpoint = _loader(checkpoint_utils.load_checkpoint)
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=_let_go)


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a complete archive of ``torch.save`` whose checksums are right.

    Nothing in it is built or run. Files in torch's old format, before 1.6, have no checksums: False.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist()) and archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError):
        return False


def newest_whole(folder: str | os.PathLike[str], other_than: str) -> str | None:
    """Return path of the youngest whole checkpoint in ``folder`` that is not named ``other_than``.

    None where there is none.

    ``crash.pt`` is no candidate: fairseq writes it where training has failed.
    """
    files = [path for path in Path(folder).glob("checkpoint*.pt") if path.name != other_than]
    youngest_first = sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    return next((str(path) for path in youngest_first if is_whole(path)), None)


class _AtomicCopies(PathManager):
    """fairseq's PathManager; a local copy is either whole or not there."""

    @staticmethod
    def copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if PathManager.path_requires_pathmanager(dst_path):
            return PathManager.copy(src_path, dst_path, overwrite=overwrite)
        with _explained(dst_path), atomic_write(dst_path, f"{dst_path}.tmp") as target, open(src_path, "rb") as source:
            shutil.copyfileobj(source, target, 2**24)
        return True


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn what a failed write raises into the one line that says so."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError after the OSError of a full disk
        cause: BaseException = error
        while cause.__context__ is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        reason = getattr(cause, "strerror", None) or " ".join(str(error).split())[:200]
        raise CheckpointNotWrittenError(
            f"cannot write {path} ({reason}); the checkpoints before it in {os.path.dirname(path) or '.'} are as they "
            f"were: make room, then give the same command again{_continuation(os.path.dirname(path) or '.')}"
        ) from None


def _continuation(folder: str) -> str:
    """Return what goes on from the checkpoints of a folder: nothing does by itself where none is the last one."""
    if any(Path(folder).glob("checkpoint_last*.pt")):
        return " to continue from the last one"
    other = newest_whole(folder, LAST)
    return f" with --restore-file {other} to continue from it" if other else ", which starts anew"


def _writer(stock: Any) -> Any:
    def torch_persistent_save(obj: Any, filename: str, async_write: bool = False) -> None:
        """Do as fairseq does; local files are synced to the disk before they get their name."""
        if async_write or PathManager.path_requires_pathmanager(filename):
            return stock(obj, filename, async_write=async_write)
        with _explained(filename), atomic_write(filename, f"{filename}.tmp") as file:
            torch.save(obj, file)
        return None

    return torch_persistent_save


def _loader(stock: Any) -> Any:
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough_args: Any) -> Any:
        """Do as fairseq does; where ``checkpoint_last.pt`` is damaged, from the newest whole checkpoint beside it.

        Raises:
            PyramidionError: the checkpoint is one of another model, or another run trains into the folder.
        """
        if distributed_utils.get_global_rank() == 0 and not getattr(cfg, "no_save", False):
            _hold(cfg.save_dir)
        try:
            return stock(_with_whole_file(cfg, trainer.checkpoint_suffix), trainer, **passthrough_args)
        except Exception as error:  # fairseq raises no kind of its own
            if not str(error).startswith("Cannot load model parameters from checkpoint"):
                raise
            reason = " ".join(str(error.__context__).split())[:300]
            raise PyramidionError(
                f"{' '.join(str(error).split())} Its model is another one than the options describe: {reason}"
            ) from None

    return load_checkpoint


def _hold(folder: str) -> None:
    """Lock a folder until this process ends; nothing is written. Folders that cannot be locked are left alone.

    Raises:
        PyramidionError: another process holds it.
    """
    if sys.platform == "win32" or not os.path.isdir(folder) or os.path.realpath(folder) in _held:
        return
    file = lock(folder)
    if file is None:
        raise PyramidionError(
            f"another run trains into {folder}, and two would mix their checkpoints: wait for it or stop it, or give "
            "another --save-dir"
        )
    _held[os.path.realpath(folder)] = file


def _let_go() -> None:
    """Close what the parent holds, in a process that it has started: else a killed run's workers would hold it."""
    for file in _held.values():
        os.close(file)
    _held.clear()


def _with_whole_file(cfg: Any, suffix: str) -> Any:
    """Return the options, with another file to restore where the last checkpoint is damaged.

    Every process looks for itself, before the first one reads and the others wait for what it sends.

    Raises:
        PyramidionError: it is damaged, and there is no other one.
    """
    last = os.path.join(cfg.save_dir, LAST)
    if cfg.restore_file != LAST or suffix or PathManager.path_requires_pathmanager(last):
        return cfg  # a file that the user has named is that file or an error; shards belong together
    if not os.path.exists(last):
        other = newest_whole(cfg.save_dir, LAST) if os.path.isdir(cfg.save_dir) else None
        if other and cfg.finetune_from_model is None:
            logger.warning(f"no {last}, so training starts anew; to continue from {other}: --restore-file {other}")
        return cfg
    if is_whole(last) or _is_old_format(last):
        return cfg
    other = newest_whole(cfg.save_dir, LAST)
    if other is None:
        raise PyramidionError(
            f"{last} is damaged and there is no other whole checkpoint in {cfg.save_dir}: put a copy in its place, or "
            "remove it to start anew"
        )
    logger.warning(f"{last} is damaged; continuing from {other}, the newest whole checkpoint")
    cfg = copy.deepcopy(cfg)
    cfg.restore_file, cfg.finetune_from_model = other, None
    return cfg


def _is_old_format(path: str) -> bool:
    """Return whether a file has torch's format before 1.6, a bare pickle, whose damage shows only when it is read."""
    with open(path, "rb") as file:
        return file.read(2) == b"\x80\x02"
