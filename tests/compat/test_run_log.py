"""Tests of the log of a run: it fits on a screen, and --verbose logs what is otherwise left out."""

import importlib.util
import io
import logging
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from fairseq.logging import progress_bar
from fairseq.tasks import TASK_REGISTRY

from pyramidion_fairseq.compat import run_log
from pyramidion_fairseq.tasks import LongDocumentSummarizationTask, heartbeat
from tests.helpers.paths import ROOT
from tests.helpers.training import ARCH, TASK, USER_DIR, write_corpus

SCREEN = 24
RUN = [
    *USER_DIR, *ARCH, "--cpu", "--optimizer", "adam", "--lr", "0.003", "--batch-size", "6", "--num-workers", "0",
    "--max-epoch", "2", "--seed", "7",
]  # fmt: skip
#: A line of each kind that is left out.
LEFT_OUT = ("'_name': None", "(encoder): PyramidionEncoder", "creating new batches", "dictionary: ", "Start iterating")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, words=40)
    return folder


def test_log_of_a_first_run_fits_on_a_screen(data, tmp_path):
    """Check the plain command with the warnings of Python and of other packages enabled."""
    words = [Path(sys.executable).parent / "fairseq-train", data, *TASK, *RUN, "--save-dir", tmp_path]
    env = dict(os.environ, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    env.pop("PYTHONWARNINGS", None)
    done = subprocess.run(list(map(str, words)), env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)
    lines = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 0 and len(lines) <= SCREEN, "\n".join(lines)
    log = "\n".join(lines)
    assert "Warning" not in log and not [kind for kind in LEFT_OUT if kind in log]
    for said in (
        f"data: {data}, 40 pieces; documents of up to 64 tokens, summaries of up to 32",
        "model: deeppyramidion, 3+2 layers of width 8, pooling 1:12,2:5; ",
        "device: cpu, 1 process; precision: float32",
        "batch: at most 6 documents per process, --update-freq 1; seed 7",
        f"checkpoints: {tmp_path} (run.txt: configuration and model); starts from scratch: no {tmp_path}/checkpoint",
        " of 40 documents cut to 64 tokens",
        "| valid | epoch 002 |",
        f"Saved checkpoint {tmp_path}/checkpoint2.pt",
    ):
        assert log.count(said) == 1, said
    kept = (tmp_path / "run.txt").read_text()
    assert "'lr': [0.003]" in kept and "(encoder): PyramidionEncoder(" in kept


def test_describe_start_names_the_checkpoint_that_fairseq_loads(tmp_path):
    """Check that ``--restore-file`` is a path of its own, not a name within ``--save-dir``."""
    file, saved, folder = tmp_path / "a.pt", tmp_path / "checkpoint_last-x.pt", str(tmp_path / "new")
    begun = {"save_dir": str(tmp_path), "checkpoint_suffix": "-x", "finetune_from_model": "b.pt"}
    file.touch()
    saved.touch()
    plain = {"restore_file": "checkpoint_last.pt", "finetune_from_model": None, "save_dir": folder}
    for options, said in (
        ({}, f"starts from scratch: no {folder}/checkpoint_last.pt"),
        ({"restore_file": os.path.relpath(file)}, f"continues from {os.path.relpath(file)}"),
        ({"finetune_from_model": "b.pt"}, "starts from the weights of b.pt"),
        ({"continue_once": "b.pt"}, "continues from b.pt"),
        (begun, f"continues from {saved}"),
    ):
        assert run_log.describe_start(Namespace(**{"checkpoint_suffix": "", **plain, **options})) == said


def test_verbose_logs_every_line_of_fairseq(command, data, tmp_path):
    log = command("train", data, *TASK, *RUN, "--verbose", "--max-epoch", 1, "--save-dir", tmp_path).stdout
    assert all(kind in log for kind in LEFT_OUT)


def test_logs_of_other_tasks_are_unchanged(command, data, tmp_path):
    other = ["--task", "translation", "--truncate-source", "--required-batch-size-multiple", 1, "--max-epoch", 1]
    log = command("train", data, *RUN, *other, "--save-dir", tmp_path).stdout
    assert "'_name': None" in log and "device: cpu" not in log and not (tmp_path / "run.txt").exists()


def test_subclass_of_our_task_counts_as_our_task(monkeypatch):
    own = type("OwnTask", (LongDocumentSummarizationTask,), {})
    monkeypatch.setitem(TASK_REGISTRY, "own", own)
    tasks = ("own", "long_document_summarization", "translation", "nowhere", None)
    assert [run_log.is_our_task(Namespace(_name=name)) for name in tasks] == [True, True, False, False, False]


@pytest.mark.skipif(importlib.util.find_spec("tensorboardX") is None, reason="needs tensorboardX: make setup")
def test_tensorboard_logdir_is_written_without_warnings(command, data, tmp_path):
    words = [*TASK, *RUN, "--max-epoch", 1, "--tensorboard-logdir", tmp_path / "tb", "--save-dir", tmp_path]
    log = command("train", data, *words, fresh=True).stdout
    assert "tensorboard" not in log.replace(str(tmp_path), "") and list((tmp_path / "tb").rglob("events.out.*"))


def test_missing_tensorboard_is_warned_of_once(command, data, tmp_path, monkeypatch):
    monkeypatch.setattr(progress_bar, "SummaryWriter", None)  # the command is forked from this process
    log = command("train", data, *TASK, *RUN, "--tensorboard-logdir", tmp_path / "tb", "--save-dir", tmp_path).stdout
    (line,) = [line for line in log.splitlines() if "tensorboard" in line and "WARNING" in line]
    assert line.endswith('because tensorboard is not installed: pip install "pyramidion_fairseq[logging]"')


def test_quiet_filter_keeps_warnings_and_unknown_lines(monkeypatch):
    monkeypatch.setattr(run_log._Quiet, "active", True)
    quiet = run_log._Quiet(("",))
    record = logging.LogRecord("fairseq.tasks.translation", logging.WARNING, "", 0, "x", (), None)
    assert quiet.filter(record)
    record.levelno = logging.INFO
    assert not quiet.filter(record) and run_log._Quiet(("y",)).filter(record)


def test_heartbeat_logs_every_30_seconds_without_other_lines(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heartbeat.sys, "stderr", io.StringIO())
    beats = heartbeat.Heartbeat()
    with caplog.at_level(logging.INFO):
        for second in range(0, 100, 10):
            now[0] = float(second)
            beats.beat(second)
            if second == 70:  # fairseq says something itself
                logging.getLogger("fairseq.logging.progress_bar").info("train_inner")
    said = [record.getMessage() for record in caplog.records if record.name == heartbeat.__name__]
    assert [line.split(" updates")[0] for line in said] == ["training: 30", "training: 60"]
