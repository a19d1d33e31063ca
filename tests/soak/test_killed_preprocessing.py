"""Tests that prepare.py killed at random moments keeps finished stages and makes the same files."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers.interruptions import STAGES, kept, snapshot
from tests.helpers.preprocessing import SCRIPT, json_lines

KILLS = 5


def start(dest, source, log):
    command = [sys.executable, "-u", str(SCRIPT), dest, "--input", source]
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore")
    with open(log, "wb") as file:
        options = ["--vocab-size", "60", "--workers", "2"]
        return subprocess.Popen(
            [*map(str, command), *options], env=environment, stdout=subprocess.DEVNULL, stderr=file
        )


def started(log):
    """Return the stages that were started or kept, in order."""
    return [line.split()[1].rstrip(":") for line in log.read_text().split("\n") if line.endswith(("started", "kept"))]


def finish(dest, source, log):
    """Run to the end and return the seconds of each stage."""
    process, begins = start(dest, source, log), {}
    while process.poll() is None:
        for stage in started(log):
            begins.setdefault(stage, time.monotonic())
        time.sleep(0.01)
    assert process.returncode == 0, log.read_text()
    ends = [*list(begins.values())[1:], time.monotonic()]
    return {stage: end - begin for (stage, begin), end in zip(begins.items(), ends)}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "a.jsonl"
    path.write_text(json_lines(range(4000)))
    return path


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    seconds = finish(folder / "dest", source, folder / "log")
    assert list(seconds) == STAGES
    return seconds, snapshot(folder / "dest")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_prepare_keeps_finished_stages_and_makes_the_same_files(seed, source, tmp_path, undisturbed):
    seconds, files = undisturbed
    draw = random.Random(seed)
    dest, log = tmp_path / "dest", tmp_path / "log"
    moments = sorted((draw.choice(STAGES) for _ in range(draw.choice([1, 1, 2]))), key=STAGES.index)
    for stage in moments:
        process, delay = start(dest, source, log), draw.uniform(0, seconds[stage])
        while process.poll() is None and stage not in started(log):
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
        ended = "killed" if process.wait() == -signal.SIGKILL else "ended within"
        print(f"seed {seed}: {ended} {delay:.2f} s after the start of {stage}")
    before = started(log)[:-1]  # each was finished before the next one began
    finish(dest, source, log)
    assert set(before) <= set(kept(log.read_text()))
    assert snapshot(dest) == files
    assert not (dest / ".prepare/work").exists()
