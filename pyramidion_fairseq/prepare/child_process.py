"""Run a program as a child process, without a shell, with its output in a log; an interruption kills it."""

import contextlib
import os
import signal
import subprocess
from typing import Sequence

from .errors import PrepareError


def run_child(command: Sequence[str], log: str, folder: str, what: str) -> None:
    """Run ``command`` in ``folder`` with its output in the file ``log``.

    The child has its own process group, which is killed if waiting for it is interrupted, for instance by Ctrl-C.

    Raises:
        PrepareError: the command failed; the message has the last line of its output and ``what``, its name.
    """
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}  # otherwise the last line of the log may not be the last one
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
            with contextlib.suppress(ProcessLookupError):  # it may just have ended
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
    if status:
        with open(log, encoding="utf-8", errors="replace") as stream_:
            lines = [line.strip() for line in stream_ if line.strip()]
        reason = lines[-1][:400] if lines else _reason_for_empty_log(log)
        if status < 0:
            reason = f"killed by signal {-status} (out of memory?)"
        raise PrepareError(f"{what} failed: {reason} (full log: {log})")


def _reason_for_empty_log(log: str) -> str:
    """Return why a log is empty: the error of writing to it, or "no message"."""
    try:
        with open(log, "ab") as stream:
            stream.write(b"\n")
    except OSError as error:
        return error.strerror or str(error)
    return "no message"
