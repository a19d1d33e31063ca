"""Programs run as children of this one: their output in a log, no shell, none left running after an interruption."""

import contextlib
import os
import signal
import subprocess
from typing import Sequence

from .errors import PrepareError


def run_child(command: Sequence[str], log: str, folder: str, what: str) -> None:
    """Run ``command`` in ``folder`` with its output in the file ``log``.

    PrepareError with the last line of the output where it fails. The child has its own process group, which is killed
    whenever this process stops waiting, Ctrl-C included.
    """
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}  # so that the last line is the last one said
    with open(log, "wb") as stream:
        child = subprocess.Popen(
            list(command),
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            status = child.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):  # it may have ended in this very moment
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
    if status:
        with open(log, encoding="utf-8", errors="replace") as stream_:
            lines = [line.strip() for line in stream_ if line.strip()]
        reason = lines[-1][:400] if lines else _why_silent(log)
        if status < 0:
            reason = f"killed by signal {-status} (out of memory?)"
        raise PrepareError(f"{what} failed: {reason} (all of its output: {log})")


def _why_silent(log: str) -> str:
    """Return why a program's log is empty: nothing can be written there, or it said nothing."""
    try:
        with open(log, "ab") as stream:
            stream.write(b"\n")
    except OSError as error:
        return error.strerror or str(error)
    return "no message"
