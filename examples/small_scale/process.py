"""Stock commands as child processes: logged to a file, their progress shown, ended with the parent."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

from pyramidion_fairseq.errors import PyramidionError

logger = logging.getLogger("reproduce")
#: What is shown of fairseq-train's log: the update's number, its loss, its rate.
PROGRESS = re.compile(r"train_inner .*?loss=([\d.]+).*?wps=([\d.]+).*?num_updates=(\d+)")


def run(command: list[str], log: Path, output: Path | None = None) -> str:
    """Run a command to its end; returns what it wrote to ``log``.

    Args:
        command: without a shell. The words of the environment variable LAUNCHER go before it (``srun``, ``nice``).
        log: gets both streams, or with ``output`` the errors alone; appended to.
        output: gets the standard output.

    Raises:
        PyramidionError: it fails; the message ends with its last line.
    """
    command = [*shlex.split(os.environ.get("LAUNCHER", "")), *command]
    env = dict(os.environ, PYTHONWARNINGS="ignore", PYTHONUNBUFFERED="1")
    start = log.stat().st_size if log.exists() else 0
    null = output or os.devnull
    # Line by line: what was logged before a kill is there.
    with open(log, "a", encoding="utf-8", buffering=1) as file, open(null, "w", encoding="utf-8") as out:
        streams = {"stdout": out, "stderr": subprocess.PIPE} if output else {"stdout": subprocess.PIPE}
        child = subprocess.Popen(
            command, env=env, text=True, start_new_session=True, **{"stderr": subprocess.STDOUT, **streams}
        )
        try:
            for line in child.stderr if output else child.stdout:
                file.write(line)
                found = PROGRESS.search(line)
                if found:
                    logger.info("  update %s: loss %s, %s tokens/s", found[3], found[1], found[2])
            status = child.wait()
        finally:
            if child.poll() is None:  # interrupted: so is the child, and what it has started
                os.killpg(child.pid, signal.SIGTERM)
                child.wait()
    with open(log, encoding="utf-8") as file:
        file.seek(start)
        text = file.read()
    if status:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "no message")
        raise PyramidionError(
            f"{command[-1] if len(command) < 3 else ' '.join(command[:3])} failed, see {log}: {last}"
        )
    return text
