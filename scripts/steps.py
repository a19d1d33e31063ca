"""What scripts of several long steps share: a log and a line for each; one that fails holds up no other."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parent.parent


class FailedError(RuntimeError):
    """A step could not be done."""


def call(command: list, log: Path, minutes: float | None = None, **environment: str) -> None:
    """Run a command with its output at the end of a log; FailedError with the last line where it fails, or where it
    takes longer than so many minutes."""
    command, limit = list(map(str, command)), None if minutes is None else 60 * minutes
    with open(log, "a", encoding="utf-8") as file:
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}  # so that the last line is the last one said
        started = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file, start_new_session=True)
        try:
            status = started.wait(limit)
        except subprocess.TimeoutExpired:
            raise FailedError(f"stopped after {minutes:.3g} minutes (its output: {log})") from None
        finally:
            if started.poll() is None:  # with its children, which would go on holding a GPU's memory
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()
    if status:
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
        last = lines[-1].strip()[:200] if lines else f"exit status {status}"
        raise FailedError(f"{last} (all of it: {log})")


def take(steps: dict[str, Callable[[], str]], logger: logging.Logger) -> int:
    """Run one step after the other, with a line for each that says what it returned; 1 where one failed."""
    failed = 0
    for name, step in steps.items():
        begin = time.monotonic()
        try:
            said = step()
        except FailedError as error:
            failed, said = 1, f"FAILED: {error}"
        logger.info(f"{name}: {said} ({time.monotonic() - begin:.0f} s)")
    return failed
