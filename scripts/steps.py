"""Run several long steps, each with a log and a line of output. If one fails, the others still run."""

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
    """Run a command and append its output to a log.

    Raises:
        FailedError: the command failed or took too long; with its last line."""
    command, limit = list(map(str, command)), None if minutes is None else 60 * minutes
    with open(log, "a", encoding="utf-8") as file:
        env = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            **environment,
        }  # flush, so that the command's last line is the last line of the log
        started = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file, start_new_session=True)
        try:
            status = started.wait(limit)
        except subprocess.TimeoutExpired:
            raise FailedError(f"stopped after {minutes:.3g} minutes (its output: {log})") from None
        finally:
            if started.poll() is None:  # and its children, which would keep a GPU's memory
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()
    if status:
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
        last = lines[-1].strip()[:200] if lines else f"exit status {status}"
        raise FailedError(f"{last} (all of it: {log})")


def take(steps: dict[str, Callable[[], str]], logger: logging.Logger) -> int:
    """Run the steps in turn, and print a line with the result of each. Return 1 if one failed, else 0."""
    failed = 0
    for name, step in steps.items():
        begin = time.monotonic()
        try:
            said = step()
        except FailedError as error:
            failed, said = 1, f"FAILED: {error}"
        logger.info(f"{name}: {said} ({time.monotonic() - begin:.0f} s)")
    return failed
