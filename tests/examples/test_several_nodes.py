"""Tests of the recipes' launch lines on two nodes without GPUs: results, a killed node, unequal nodes."""

import re

import pytest
import torch

from pyramidion_fairseq.checkpoints import load_checkpoint
from pyramidion_fairseq.compat import several_processes
from tests.helpers.forked import fairseq_command, run
from tests.helpers.nodes import SMALL, finish, start
from tests.helpers.training import training_log

from recipes import command, paper  # isort: skip

UPDATES = 4
LAST = "checkpoint_last.pt"


def line(prepared, save, monkeypatch, nodes, *extra):
    """Return the words after ``fairseq-train`` of the recipe's command."""
    monkeypatch.setenv("NODE_RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    settings = command.Settings(data=str(prepared), save=str(save), gpus=0, nodes=nodes, batch=4, metric="loss")
    (words,) = command.train(paper.Recipe("deeppyramidion", "pubmed"), settings, [])
    assert (words[0] == "torchrun") == (nodes > 1) and words[words.index("--update-freq") + 1] == str(64 // nodes)
    steps = ["--max-update", str(UPDATES), "--save-interval-updates", "1", "--keep-interval-updates", "2"]
    return [*words[words.index("fairseq-train") + 1 :], *SMALL, *steps, *extra]


def model(save):
    return load_checkpoint(save / LAST)["model"]


@pytest.fixture(scope="module")
def two(prepared, tmp_path_factory):
    """Train on two nodes without interruption; return the folder and the logs."""
    save = tmp_path_factory.mktemp("two")
    logs = [save / f"log{rank}" for rank in range(2)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        words = line(prepared, save, monkeypatch, 2)
    assert finish(start(words, logs)) == [0, 0], logs[0].read_text()[-3000:]
    return save, logs


def test_two_nodes_train_like_one_with_the_same_effective_batch(prepared, tmp_path, monkeypatch, two):
    """Compare losses to the log's three digits and parameters to 1e-5, with 24 documents an update.

    A step changes parameters by about 0.003.
    """
    save, logs = two
    words = line(prepared, tmp_path, monkeypatch, 1)
    done = run(fairseq_command("train"), ["fairseq-train", *words])
    assert done.returncode == 0, done.stderr[-3000:]
    single, double = training_log(done.stdout), training_log(logs[0].read_text())
    assert single.keys() == double.keys() and len(single) >= UPDATES
    assert double == pytest.approx(single, abs=0.002) and not training_log(logs[1].read_text())
    expected, found = model(tmp_path), model(save)
    moved = max((expected[name] - value).abs().max() for name, value in found.items() if value.is_floating_point())
    assert moved <= 1e-5
    first = min(loss for (kind, update), loss in single.items() if update == 1)
    assert single["train", UPDATES] < first - 0.2


def test_training_continues_identically_after_a_node_is_killed(prepared, tmp_path, monkeypatch, two):
    """Check that the other node ends with one line, and that both, started again, reach the same weights."""
    logs = [tmp_path / f"log{rank}" for rank in range(2)]
    words = line(prepared, tmp_path, monkeypatch, 2)
    first, second = start(words, logs)
    second.kill_after(logs[0], rb'"num_updates": "2"', 1, 0)
    assert finish([first])[0] == 1
    text = logs[0].read_text()
    errors = [row for row in text.splitlines() if "error: " in row]
    assert len(errors) == 1 and "Traceback" not in text, text[-3000:]
    assert "another process of this training has ended or cannot be reached (" in errors[0]
    assert errors[0].endswith("the same command on every node continues from the last whole checkpoint")
    updates = load_checkpoint(tmp_path / LAST)["optimizer_history"][-1]["num_updates"]
    assert 1 <= updates < UPDATES
    assert finish(start(words, logs)) == [0, 0], logs[0].read_text()[-3000:]
    assert re.search(rf"Loaded checkpoint .*{LAST} \(epoch \d+ @ {updates} updates\)", logs[0].read_text())
    expected, found = model(two[0]), model(tmp_path)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def refused(words, tmp_path, befores=()):
    logs = [tmp_path / f"log{rank}" for rank in range(2)]
    assert finish(start(words, logs, befores), timeout=120) == [1, 1]
    rows = [[row for row in log.read_text().splitlines() if "error: " in row] for log in logs]
    assert [len(found) for found in rows] == [1, 1]
    return [found[0][found[0].index("error: ") :] for found in rows]  # torch writes the rank before it


def test_nodes_with_different_versions_are_refused(prepared, tmp_path, monkeypatch):
    words = line(prepared, tmp_path / "save", monkeypatch, 2)

    def older():
        several_processes.__version__ = "0.0.9"

    row, same = refused(words, tmp_path, (lambda: None, older))
    assert row == same
    assert re.search(
        r"error: process 0 \(on \S+\) has pyramidion_fairseq \S+, torch \S+, fairseq \S+; process 1 ", row
    )
    assert "has pyramidion_fairseq 0.0.9, " in row and row.endswith(": install the same versions on every node")
    assert not (tmp_path / "save" / LAST).exists()


def test_nodes_that_do_not_share_their_checkpoints_are_refused(prepared, tmp_path, monkeypatch, two):
    """Check it because fairseq's first process would send data that the second does not receive."""
    words = line(prepared, two[0], monkeypatch, 2)
    place = words.index("--save-dir") + 1

    def elsewhere():
        import sys

        sys.argv[sys.argv.index("--save-dir") + 1] = str(tmp_path / "elsewhere")

    assert words[place] == str(two[0])
    for row, save in zip(refused(words, tmp_path, (lambda: None, elsewhere)), (two[0], tmp_path / "elsewhere")):
        assert (
            "has a checkpoint_last.pt to continue from; process 1 (on " in row and "has no checkpoint_last.pt" in row
        )
        assert row.endswith(f": all nodes must see the same files in --save-dir {save} (SAVE= of a recipe)")
