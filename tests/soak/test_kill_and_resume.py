"""Tests that training killed at random moments continues to exactly the result of an uninterrupted run."""

import random
import re

import pytest
import torch

from pyramidion_fairseq.checkpoints import load_checkpoint
from tests.helpers.forked import Forked, fairseq_command
from tests.helpers.training import TASK, TRAIN, training_log, write_corpus

KILLS = 25
#: Moments of killing: the text in the log just before, and the most seconds that it lasts.
MOMENTS = {
    "reading data and model": (b"", 0.5),
    "in an update": (b"train_inner", 0.05),
    "in a validation": (b"begin validation", 0.05),
    "while a checkpoint is written": (b"Preparing to save checkpoint", 0.02),
    "between the copies of a checkpoint": (b"Finished saving checkpoint", 0.02),
}
SAVE = ["--save-interval-updates", "3", "--keep-interval-updates", "2", "--max-epoch", "3"]


def start(data, folder, log):
    """Start the training command in a process of its own and append its output to the file ``log``."""
    with open(log, "ab") as file:
        arguments = [data, *TRAIN, *TASK, *SAVE, "--verbose", "--save-dir", folder]
        return Forked(fairseq_command("train"), ["fairseq-train", *arguments], file, file)


def losses(log):
    """Return {(kind, update): loss} of all runs in this log; check that runs agree about the same update."""
    rows = {}
    for run in re.split(r"(?=.*\| INFO \| fairseq_cli.train \| \{'_name')", log.read_text(errors="replace")):
        for key, loss in training_log(run).items():
            assert rows.setdefault(key, loss) == loss, key
    return rows


def finish(data, folder, log):
    process = start(data, folder, log)
    assert process.wait(timeout=120) == 0, log.read_text(errors="replace")[-3000:]
    return losses(log), load_checkpoint(folder / "checkpoint_last.pt")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, words=40)
    return folder


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return finish(data, folder / "checkpoints", folder / "log")


def disturb(seed, data, tmp_path, undisturbed):
    draw = random.Random(seed)
    log, folder = tmp_path / "log", tmp_path / "checkpoints"
    for _ in range(draw.choice([1, 1, 2])):
        moment = draw.choice(list(MOMENTS))
        begin = log.stat().st_size if log.exists() else 0
        process, (pattern, longest) = start(data, folder, log), MOMENTS[moment]
        process.kill_after(log, pattern, draw.randint(1, 4), draw.uniform(0, longest), begin)
        whole = [path.name for path in folder.glob("*.pt") if load_checkpoint(path)]
        print(f"seed {seed}: killed {moment}; whole: {sorted(whole)}")
    rows, last = finish(data, folder, log)
    expected_rows, expected = undisturbed
    assert rows == expected_rows
    assert set(last["model"]) == set(expected["model"])
    assert all(torch.equal(value, expected["model"][name]) for name, value in last["model"].items())
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_training_resumes_to_identical_weights(seed, data, tmp_path, undisturbed):
    disturb(seed, data, tmp_path, undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, KILLS + 2))
def test_killed_training_resumes_to_identical_weights_for_many_seeds(seed, data, tmp_path, undisturbed):
    disturb(seed, data, tmp_path, undisturbed)
