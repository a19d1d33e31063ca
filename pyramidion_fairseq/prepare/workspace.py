"""The output folder: keeps finished stages, never shows incomplete files, and does not touch other files.

``DEST/.prepare/<stage>.json`` is the stamp of a stage. It contains the key (a hash of everything that the outputs
depend on), the outputs with their sizes in bytes and modification times, a digest of their content, and the stage's
result. A stage writes to its own folder below ``DEST/.prepare/work``; its files are renamed into place when all are
complete.

Outputs are unchanged if their sizes and times are the same, or otherwise if the digest is. A changed file of the same
size whose time was set back is not detected. DEST may come from somebody else: no file in it can make a run read,
write or remove anything outside of DEST.
"""

import hashlib
import json
import logging
import os
import shutil
import stat
import uuid
from typing import Any, Callable, Dict, List, Optional, Set

from ..utils.files import atomic_write, is_same_file
from .errors import PrepareError
from .stage_results import fits

try:
    import fcntl
except ImportError:  # pragma: no cover - on Windows, two runs at once are not prevented
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("prepare")
STAMPS = ".prepare"
FORMAT = 2  # increase it when the output of a stage changes for the same options


class Workspace:
    """``DEST``, locked for one run.

    Raises:
        PrepareError: DEST is a file, is a non-empty folder of something else, cannot be written, or is in use.
    """

    def __init__(self, dest: str):
        self.dest = os.path.abspath(dest)
        self.stamps = os.path.join(self.dest, STAMPS)
        self.work = os.path.join(self.stamps, "work")
        if os.path.exists(self.dest) and not os.path.isdir(self.dest):
            raise PrepareError(f"{dest} is a file: give a folder")
        if os.path.isdir(self.dest) and os.listdir(self.dest) and not os.path.isdir(self.stamps):
            raise PrepareError(f"{dest} is not empty and was not made by prepare.py: give another folder")
        try:
            os.makedirs(self.stamps, exist_ok=True)
            self._refuse_links(os.path.join(STAMPS, "work"))
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            self._lock = open(os.open(os.path.join(self.stamps, "lock"), flags, 0o666), "r+b", 0)  # noqa: SIM115 - held
        except OSError as error:
            raise PrepareError(f"cannot write to {dest}: {error.strerror}") from None
        if fcntl is not None:
            try:
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise PrepareError(f"another prepare.py is writing to {dest}") from None
        shutil.rmtree(self.work, ignore_errors=True)

    def path(self, name: str) -> str:
        """Return the absolute path of an output that is given relative to DEST."""
        return os.path.join(self.dest, name)

    def run(
        self,
        stage: str,
        depends: Dict[str, Any],
        build: Callable[[str], Dict[str, Any]],
        form: Optional[Dict[str, Any]] = None,
    ) -> Dict[str, Any]:
        """Run a stage unless an earlier run had the same dependencies and its outputs are unchanged.

        Args:
            stage: name of the stage
            depends: everything that the outputs depend on, JSON-serialisable
            build: writes the outputs below the given folder and returns the result, JSON-serialisable
            form: checks of the result (``stage_results.fits``); the stage is run again if an earlier result fails

        Returns:
            The stamp of the stage.
        """
        text = json.dumps([FORMAT, stage, depends], sort_keys=True)
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        stamp = self._load(stage)
        known = stamp is not None and stamp.get("key") == key and type(stamp.get("digest")) is str
        if (
            stamp is not None
            and known
            and fits(stamp.get("result"), form or {})
            and self._outputs_are_whole(stage, stamp)
        ):
            logger.info("%s: kept", stage)
            return stamp
        logger.info("%s: started", stage)
        # A new folder, as children of a killed run may still be writing to the old one.
        folder = os.path.join(self.work, uuid.uuid4().hex[:8], stage)
        os.makedirs(folder)
        result = build(folder)
        stamp = self.publish(stage, folder, key, result)
        shutil.rmtree(self.work, ignore_errors=True)
        return stamp

    def refuse_own(self, path: str) -> None:
        """Raise PrepareError if an input file is the output of a stage, as the run would replace or remove it."""
        for name in sorted(os.listdir(self.stamps)):
            stage, extension = os.path.splitext(name)
            outputs = (self._load(stage) or {}).get("outputs", {}) if extension == ".json" else {}
            if any(is_same_file(self.path(output), path) for output in outputs):
                raise PrepareError(f"{path} is an output of an earlier run and would be replaced: choose another DEST")

    def finished(self, stage: str) -> Optional[Dict[str, Any]]:
        """Return the stamp of a stage if it is finished and its outputs are unchanged, otherwise None."""
        stamp = self._load(stage)
        if stamp is None or type(stamp.get("key")) is not str or not self._outputs_are_whole(stage, stamp):
            return None
        return stamp

    def publish(self, stage: str, folder: str, key: Optional[str], result: Dict[str, Any]) -> Dict[str, Any]:
        """Move a stage's files from ``folder`` into place and write its stamp."""
        names = sorted(
            os.path.relpath(os.path.join(top, name), folder) for top, _, files in os.walk(folder) for name in files
        )
        outputs = {name: _state(os.path.join(folder, name)) for name in names}
        digest = _digest(folder, names)
        old = self._move(stage, folder, names)
        for name in old - set(names):
            if os.path.lexists(self.path(name)):
                os.unlink(self.path(name))
        stamp = {"key": key, "outputs": outputs, "digest": digest, "result": result}
        self._save(stage, stamp)
        return stamp

    def publish_only(self, stage: str, folder: str, names: List[str]) -> None:
        """Move some files of a failed stage into place; the stage stays unfinished."""
        self._move(stage, folder, names)

    def _move(self, stage: str, folder: str, names: List[str]) -> Set[str]:
        old = set((self._load(stage) or {}).get("outputs", {}))
        for name in {*names, *old}:
            self._refuse_links(os.path.dirname(name))
        for name in names:
            if name not in old and os.path.lexists(self.path(name)):
                raise PrepareError(f"{self.path(name)} would be overwritten but was not made by prepare.py: move it")
        # An interruption from here until the final stamp leaves a stamp without a key, so that the stage is run again.
        self._save(stage, {"key": None, "outputs": {name: None for name in {*names, *old}}})
        for name in names:
            os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
            os.replace(os.path.join(folder, name), self.path(name))
        return old

    def _outputs_are_whole(self, stage: str, stamp: Dict[str, Any]) -> bool:
        for name in stamp["outputs"]:
            self._refuse_links(os.path.dirname(name))
        found = {name: _state(self.path(name)) for name in stamp["outputs"]}
        if None in found.values():
            return False
        if found != stamp["outputs"]:
            if _digest(self.dest, sorted(found)) != stamp.get("digest"):
                return False
            self._save(stage, {**stamp, "outputs": found})
        return True

    def _refuse_links(self, folder: str) -> None:
        """Raise PrepareError if a folder, given relative to DEST, or one of its parents is a link."""
        while folder:
            if os.path.islink(self.path(folder)):
                raise PrepareError(f"{self.path(folder)} is a link: replace it by the folder itself")
            folder = os.path.dirname(folder)

    def _load(self, stage: str) -> Optional[Dict[str, Any]]:
        path = os.path.join(self.stamps, stage + ".json")
        if _state(path) is None:
            return None
        try:
            with open(path, encoding="utf-8") as stream:
                stamp = json.load(stream)
            names, result = stamp["outputs"], stamp.get("result", {})
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return None
        if not isinstance(names, dict) or not isinstance(result, dict):
            return None
        for name in names:
            if not all(part.strip(".") and "\0" not in part for part in name.replace("\\", "/").split("/")):
                raise PrepareError(
                    f"{path} contains the invalid file name {name!r:.200} and was not made by prepare.py: remove it"
                )
        return stamp

    def _save(self, stage: str, stamp: Dict[str, Any]) -> None:
        path = os.path.join(self.stamps, stage + ".json")
        with atomic_write(path, path + ".tmp") as stream:
            stream.write(json.dumps(stamp, sort_keys=True).encode())


def _state(path: str) -> Optional[List[int]]:
    """Return the size in bytes and modification time in ns of a regular file; None if there is none."""
    try:
        state = os.lstat(path)
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns] if stat.S_ISREG(state.st_mode) else None


def _digest(folder: str, names: List[str]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for name in names:
        state.update(name.encode("utf-8", "surrogateescape") + b"\0")
        with open(os.path.join(folder, name), "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):  # noqa: B023 - used inside the loop only
                state.update(block)
    return state.hexdigest()
