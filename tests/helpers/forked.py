"""Run commands in processes forked from this one, which has imported everything: this saves seconds each."""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.util
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, BinaryIO, Callable, Mapping

import torch
from fairseq.logging import metrics

from pyramidion_fairseq import errors
from tests.helpers import composing

ROOT = Path(__file__).resolve().parents[2]
LOG_FORMAT = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"  # as in fairseq's commands


class Forked:
    """A function in a process of its own, with the needed part of ``subprocess.Popen``'s interface.

    Args:
        main: ends by returning (status 0), with ``sys.exit`` or with an exception.
        argv: of the process, the command's name first.
        stdout, stderr, stdin: open files.
        cwd: folder to run in.
        environment: variables to set.
    """

    def __init__(
        self,
        main: Callable[[], Any],
        argv: list,
        stdout: BinaryIO,
        stderr: BinaryIO,
        stdin: BinaryIO | None = None,
        cwd: Any = ROOT,
        environment: Mapping[str, str] | None = None,
    ):
        sys.stdout.flush()
        sys.stderr.flush()
        import_what_commands_need()
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                files = [stdin.fileno() if stdin else os.open(os.devnull, os.O_RDONLY)]
                _become([*files, stdout.fileno(), stderr.fileno()], list(map(str, argv)), str(cwd), environment or {})
                status = _status(main)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """Wait for the end; after ``timeout`` seconds kill the process and raise TimeoutExpired.

        Seconds during which this process was stopped are not counted.
        """
        waited, last = 0.0, time.monotonic()
        while self.poll() is None:
            if waited > timeout:
                self.kill()
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.005)
            now = time.monotonic()
            waited, last = waited + min(now - last, 1.0), now
        return self.returncode

    def kill(self) -> None:
        """Kill the process by SIGKILL and wait for its end."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            while self.poll() is None:
                time.sleep(0.002)

    def kill_after(self, file: Path, pattern: bytes, count: int, delay: float, begin: int = 0) -> None:
        """Kill the process ``delay`` seconds after the pattern is ``count`` times in the file, from byte ``begin`` on.

        Raises:
            AssertionError: the process had ended before.
        """
        while self.poll() is None:
            if file.exists() and len(re.findall(pattern, file.read_bytes()[begin:])) >= count:
                time.sleep(delay)
                break
            time.sleep(0.002)
        self.kill()
        assert self.returncode == -signal.SIGKILL, "it has ended before"


@functools.cache
def import_what_commands_need() -> None:
    """Import what torch imports at the first use of an optimizer or operator: two seconds in each forked process.

    Also compose what the options of most commands have in common, and freeze all objects: garbage collection in a
    forked process writes to each object, which copies all memory.
    """
    importlib.import_module("torch._dynamo")
    composing.prepare()
    gc.collect()
    gc.freeze()


def _become(files: list, argv: list, cwd: str, environment: Mapping[str, str]) -> None:
    """Make this process look like a new one that runs a command."""
    for target, file in enumerate(files):
        if file != target:
            os.dup2(file, target)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (open(file, "w", buffering=1, closefd=False) for file in (1, 2))  # noqa: SIM115
    os.chdir(cwd)
    os.environ.update({"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment})
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    torch.cuda.is_available = lambda: False  # torch caches the count of GPUs, and none can be used after a fork
    sys.argv, sys.excepthook = argv, sys.__excepthook__
    errors.install_excepthook()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    logging.disable(logging.NOTSET)
    for handler in list(logging.root.handlers):
        logging.root.removeHandler(handler)
    logging.root.setLevel(logging.WARNING)
    metrics.reset()


def _status(main: Callable[[], Any]) -> int:
    status = 0
    try:
        main()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.stderr.write(stop.code + "\n")
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def fairseq_command(name: str) -> Callable[[], Any]:
    """Return the function of the installed script ``fairseq-NAME``, with the logging that its import sets up."""

    def main() -> None:
        logging.basicConfig(format=LOG_FORMAT, datefmt="%Y-%m-%d %H:%M:%S", level=logging.INFO, stream=sys.stdout)
        command()

    command = importlib.import_module(f"fairseq_cli.{name.replace('-', '_')}").cli_main
    return main


class Popen(subprocess.Popen):
    """A ``subprocess.Popen`` that forks commands of this Python from this process, and so do these commands.

    They are ``python -m MODULE ...``, ``python SCRIPT ...``, ``fairseq-NAME ...`` and ``pyramidion-NAME ...``. All
    other commands are new processes.
    """

    def __init__(self, args: Any, **options: Any):
        words, environment = _words_of_python(args), options.get("env")
        if words:
            import_what_commands_need()
            options["preexec_fn"] = lambda: _python(words, environment)  # runs after streams and folder are set
        super().__init__(args, **options)


def _words_of_python(args: Any) -> list[str]:
    """Return the arguments of an interpreter that runs this command; empty for all others."""
    name, *words = [args] if isinstance(args, str) else map(str, args)
    if name == sys.executable:
        return words if words[:1] != ["-c"] else []
    package, _, command = name.partition("-")
    packages = {"fairseq": "fairseq_cli", "pyramidion": "pyramidion_fairseq.cli"}
    return ["-m", f"{packages[package]}.{command.replace('-', '_')}", *words] if package in packages else []


def run_command(words: list, timeout: float = 600, **options: Any) -> subprocess.CompletedProcess:
    """Run a command by :class:`Popen` to its end, with its output as text; options are those of the class."""
    with Popen(words, text=True, **options) as started:
        stdout, stderr = started.communicate(timeout=timeout)
    return subprocess.CompletedProcess(words, started.returncode, stdout, stderr)


def _python(words: list, environment: Mapping[str, str] | None) -> None:
    """Act as a new interpreter with these arguments, and end."""
    status = 1
    try:
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # as in a new program; the parent waits for one of them
        gc.enable()  # it is off in preexec_fn
        is_module = words[0] == "-m"
        name, arguments = (words[1], words[2:]) if is_module else (words[0], words[1:])
        spec = importlib.util.find_spec(name) if is_module else None
        if environment is not None:
            os.environ.clear()
        _become([0, 1, 2], [spec.origin if spec else name, *arguments], os.getcwd(), environment or {})
        subprocess.Popen = Popen  # type: ignore[misc]
        if not is_module:
            sys.path.insert(0, str(Path(name).resolve().parent))
        run_code = runpy.run_module if is_module else runpy.run_path
        status = _status(lambda: run_code(name, run_name="__main__"))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def run(
    main: Callable[[], Any], argv: list, stdin: str | None = None, timeout: float = 600, **options: Any
) -> subprocess.CompletedProcess:
    """Run a function by :class:`Forked` to its end, with its output as text; options are those of the class."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as given:
        given.write((stdin or "").encode("utf-8"))
        given.seek(0)
        code = Forked(main, argv, out, err, given, **options).wait(timeout)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return subprocess.CompletedProcess(list(map(str, argv)), code, *texts)
