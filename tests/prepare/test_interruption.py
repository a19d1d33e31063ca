"""Tests that prepare.py, killed in any stage and started again, makes the same files as an uninterrupted run."""

import functools
import glob
import importlib
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.interruptions import STAGES, kept, snapshot
from tests.helpers.preprocessing import SCRIPT, prepare

#: Where the process is killed: module, function or method, number of the call.
DEATHS = {
    "read": (".collector", "Collector.add", 17),
    "sentencepiece": (".vocabulary_stage", "load_model", 1),
    "encode": (".encode_stage", "encode", 4),
    "rename": ("os", "replace", 5),
    "binarise": (".binarise_stage", "index_counts", 2),
}


def die_at_call(module, name, number):
    owner, calls = importlib.import_module(module, "pyramidion_fairseq.prepare"), []
    *path, name = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, name)

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


@pytest.fixture
def arguments(write, jsonl):
    """Return options for a corpus of 40 documents, in one process."""
    return ["--input", write("a.jsonl", jsonl(range(40))), "--vocab-size", "50", "--workers", "1"]


def test_prepare_killed_in_any_stage_resumes_to_the_same_files(tmp_path, arguments, prepare_command):
    undisturbed = prepare_command(tmp_path / "one", *arguments)
    assert undisturbed.returncode == 0, undisturbed.stderr
    dest = tmp_path / "two"
    seen = {}
    for where, death in DEATHS.items():
        killed = prepare([dest, *arguments], functools.partial(die_at_call, *death))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert (dest / ".prepare/work").exists()
        seen[where] = (kept(killed.stderr), len(snapshot(dest)))
    assert (
        seen
        == {
            "read": ([], 0),
            "sentencepiece": ([], 7),  # six texts and skipped.jsonl
            "encode": (STAGES[:1], 9),
            "rename": (STAGES[:2], 12),  # three of six encoded files are in place, but the stage is not done
            "binarise": (STAGES[:2], 15),
        }
    )
    resumed = prepare_command(dest, *arguments)
    assert kept(resumed.stderr) == STAGES[:3]
    assert resumed.stdout == undisturbed.stdout
    assert snapshot(dest) == snapshot(tmp_path / "one")
    assert not (dest / ".prepare/work").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_prepare_with_one_line_and_leave_no_process(tmp_path, arguments, number, status):
    dest = tmp_path / "dest"
    command = [sys.executable, str(SCRIPT), str(dest), *arguments]
    # A background job of a shell ignores SIGINT, and so do its child processes: these tests may run in one.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    deadline = time.monotonic() + 60
    # glob and not pathlib, which fails if a folder is renamed meanwhile.
    while not glob.glob(f"{dest}/.prepare/work/*/fairseq-preprocess.log") and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (status, "")
    assert stderr.endswith("interrupted: run the same command again to continue\n")
    assert "Traceback" not in stderr and stderr.count("interrupted") == 1
    assert not (dest / "data-bin").exists()
    assert not [line for line in running() if str(dest) in line]


def running():
    """Yield the command lines of all processes."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                yield stream.read().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
