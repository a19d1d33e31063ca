"""Tests of the launch lines of docs/scaling.md by torchrun's agents and by Slurm with virtual nodes."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pyramidion_fairseq.checkpoints import load_checkpoint
from tests.helpers.nodes import SMALL, free_port
from tests.helpers.paths import ROOT

PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged")
PATH = f"{os.environ['PATH']}:/usr/sbin"
needs_slurm = pytest.mark.skipif(
    any(shutil.which(name, path=PATH) is None for name in PROGRAMS),
    reason="needs Slurm: apt-get install slurm-wlm munge",
)
pytestmark = pytest.mark.soak
UPDATES = 60
STEPS = [f"--max-update={UPDATES}", "--save-interval-updates=2", "--keep-interval-updates=2", "--disable-validation"]
SETTINGS = ["GPUS=0", "METRIC=loss", "BATCH=4"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return environment variables with which commands run from this repository, whatever is installed."""
    commands = tmp_path_factory.mktemp("commands")
    for name in ("summarize", "summaries", "prepare"):
        path = commands / f"pyramidion-{name}"
        call = f"import pyramidion_commands; pyramidion_commands.{name}()"
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{call}" "$@"\n', "utf-8")
        path.chmod(0o755)
    paths = os.pathsep.join([str(commands), os.path.dirname(sys.executable), PATH])
    chosen = {"PYTHONPATH": str(ROOT), "PATH": paths, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **chosen, "CUDA_VISIBLE_DEVICES": ""}


def run(environment, *words, timeout=900):
    done = subprocess.run(
        list(map(str, words)), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def data(environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rows = [{"document": f"the dog number {n} runs " * (1 + n % 5), "summary": f"dog {n}"} for n in range(40)]
    for name, part in (("train", rows[:24]), ("valid", rows[24:30]), ("test", rows[30:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), "utf-8")
    splits = [f"--{name}={folder / name}.jsonl" for name in ("train", "valid", "test")]
    run(environment, "pyramidion-prepare", folder / "data", *splits, "--vocab-size", 60, "--workers", 1)
    return folder / "data"


@pytest.fixture(scope="module")
def one(environment, data, tmp_path_factory):
    """Train on one node without interruption and return the folder."""
    save = tmp_path_factory.mktemp("one")
    recipe = ["bash", "examples/pubmed/train.sh", "deeppyramidion", data, f"SAVE={save}", *SETTINGS]
    run(environment, *recipe, *SMALL, *STEPS)
    return save


def equal(save, one, log):
    """Check that weights after 60 updates equal those of one process to one step of Adam, as rounding grows.

    After four updates they are equal to 1e-5 (tests/examples/test_several_nodes.py).
    """
    found, expected = (load_checkpoint(folder / "checkpoint_last.pt") for folder in (save, one))
    assert found["optimizer_history"][-1]["num_updates"] == UPDATES, log[-3000:]
    for name, value in expected["model"].items():
        torch.testing.assert_close(found["model"][name], value, rtol=0, atol=3e-3, msg=name)


def agents(environment, data, save, port):
    """Start the recipe's line on two nodes, each with an agent of torchrun."""
    recipe = ["bash", "examples/pubmed/train.sh", "deeppyramidion", data, f"SAVE={save}", "NODES=2", *SETTINGS]
    started = []
    for rank in range(2):
        where = {**environment, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(rank)}
        with open(save / f"log{rank}", "ab") as log:
            words = list(map(str, [*recipe, *SMALL, *STEPS]))
            options = {"cwd": ROOT, "env": where, "stdout": log, "stderr": log, "start_new_session": True}
            started.append(subprocess.Popen(words, **options))
    return started


def kill_node(process):
    """Kill an agent and its workers, which have sessions of their own, unless it has ended."""
    if process.poll() is not None:
        return
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has just ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [process.pid]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def wait_for(pattern, path, seconds=400):
    end = time.monotonic() + seconds
    while not (path.exists() and re.search(pattern, path.read_text(errors="replace"))):
        assert time.monotonic() < end, path.read_text()[-3000:] if path.exists() else path
        time.sleep(0.2)


def test_torchrun_on_two_nodes_continues_after_one_is_killed(environment, data, one, tmp_path):
    """Check that the other node ends with one line, and that the run, started again, ends as on one node."""
    first, second = agents(environment, data, tmp_path, free_port())
    try:
        wait_for('"num_updates": "7"', tmp_path / "log0")
        kill_node(second)
        assert first.wait(300) == 1 and second.wait(60) == -9
    finally:
        kill_node(first)
        kill_node(second)
    log = (tmp_path / "log0").read_text()
    assert len(re.findall("error: another process of this training has ended or cannot be reached", log)) == 1
    assert log.splitlines()[-1] == "error: torchrun ended with status 1"
    assert [process.wait(600) for process in agents(environment, data, tmp_path, free_port())] == [0, 0]
    log = (tmp_path / "log0").read_text()
    assert re.search(r"Loaded checkpoint \S+checkpoint_last.pt \(epoch \d+ @ [4-9]\d* updates\)", log)
    equal(tmp_path, one, log)


@pytest.mark.parametrize("shared", [[], ["--sequence-parallel", 2, "--ddp-backend", "legacy_ddp"]], ids=["", "shared"])
def test_torchrun_line_without_a_recipe_trains_on_two_processes(environment, data, tmp_path, shared):
    """Check two processes of one node that read different documents, or the same ones by sequence parallelism."""
    line = ["torchrun", "--nproc_per_node", 2, "--no_python", "fairseq-train", data / "data-bin", "--user-dir"]
    line += ["pyramidion_fairseq", "--task", "long_document_summarization", "--arch", "deeppyramidion", "--optimizer"]
    line += ["adam", "--lr", "5e-4", "--batch-size", 2, "--cpu", "--distributed-world-size", 2]
    line += [*SMALL, *shared, "--max-update", 2, "--disable-validation"]
    out = run(environment, *line, "--save-dir", tmp_path)
    assert "2 processes" in out
    assert load_checkpoint(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 2


@pytest.fixture(scope="module")
def slurm(environment, tmp_path_factory):
    """Start a cluster of three virtual nodes and return the environment of its commands."""
    folder = tmp_path_factory.mktemp("slurm")
    script = [sys.executable, "scripts/virtual_slurm.py"]
    run(environment, *script, "start", folder)
    try:
        yield {**environment, "SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        run(environment, *script, "stop", folder)


def finished(slurm, job, log, seconds=600):
    """Wait until a job and its array have left the queue; start a job that was queued again at once."""
    end = time.monotonic() + seconds
    while states := run(slurm, "squeue", "--noheader", "--jobs", job, "--format=%T %r").split("\n")[:-1]:
        assert time.monotonic() < end, log.read_text()[-3000:]
        if any("BeginTime" in state for state in states):
            run(slurm, "scontrol", "update", f"JobId={job}", "StartTime=now")
        time.sleep(1)


@needs_slurm
def test_slurm_job_continues_after_it_was_preempted(slurm, data, one, tmp_path):
    """Check that a job preempted by one of higher priority is queued again and ends with the weights of one node."""
    log = tmp_path / "log"
    cpus = ["--gpus-per-node=0", "--ntasks-per-node=1", "--cpus-per-task=1", f"--output={log}", "--parsable"]
    recipe = ["pubmed", "deeppyramidion", data, f"SAVE={tmp_path / 'save'}", *SETTINGS, *SMALL, *STEPS]
    job = run(slurm, "sbatch", *cpus, "examples/slurm/train.sbatch", *recipe).strip()
    wait_for('"num_updates": "7"', log)
    run(slurm, "sbatch", "--partition=high", "--nodes=3", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    wait_for("SIGUSR1: the job is queued again", log)
    finished(slurm, job, log)
    text = log.read_text()
    assert re.search(r"Loaded checkpoint \S+checkpoint_last.pt \(epoch \d+ @ [4-9]\d* updates\)", text)
    assert "2 processes" in text
    equal(tmp_path / "save", one, text)


@needs_slurm
@pytest.mark.parametrize("program", ["pyramidion-summarize", "fairseq-generate"])
def test_slurm_array_summarises_shards_like_one_process(slurm, data, one, tmp_path, program):
    """Compare the joined output of an array of three with that of one process."""
    model, vocabulary = one / "checkpoint_last.pt", data / "sentencepiece.model"
    if program == "pyramidion-summarize":
        words = [program, "--checkpoint", model, "--data", data / "data-bin", "--sentencepiece-model", vocabulary]
        words += ["--input", data / "text" / "test.source", "--input-format", "text", "--min-len", 1, "--max-len-b", 8]
        run(slurm, *words, "--output", tmp_path / "one.txt")
    else:
        words = [program, data / "data-bin", "--user-dir", "pyramidion_fairseq", "--task"]
        words += ["long_document_summarization", "--cpu", "--path", model, "--beam", 2, "--max-len-b", 8]
        words += ["--batch-size", 3, "--bpe", "sentencepiece", "--sentencepiece-model", vocabulary, "--num-workers", 0]
        run(slurm, *words, "--results-path", tmp_path / "one")
        run(slurm, "pyramidion-summaries", tmp_path / "one", "--output", tmp_path / "one.txt", "--expected", 10)
    log, out = tmp_path / "log", tmp_path / "out"
    options = ["--gpus=0", "--cpus-per-task=1", "--array=1-3", f"--output={log}", "--parsable"]
    finished(slurm, run(slurm, "sbatch", *options, "examples/slurm/summarize.sbatch", out, *words).strip(), log)
    run(slurm, "pyramidion-summaries", out, "--output", tmp_path / "all.txt", "--expected", 10, "--strict")
    assert (tmp_path / "all.txt").read_text() == (tmp_path / "one.txt").read_text(), log.read_text()[-2000:]
    assert len((tmp_path / "all.txt").read_text().splitlines()) == 10
