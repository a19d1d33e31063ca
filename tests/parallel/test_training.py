"""Tests of fairseq-train with documents spread over processes: it logs and learns what one process does."""

import json
import re

import pytest
import torch

from pyramidion_fairseq.checkpoints import load_checkpoint
from tests.helpers.forked import fairseq_command
from tests.helpers.ranks import end_ranks, start_ranks
from tests.helpers.training import TASK, TRAIN, write_corpus

SPREAD = [
    "--distributed-backend", "gloo", "--distributed-no-spawn", "--distributed-init-method", "env://",
    "--device-id", "0", "--distributed-rank", "RANK",
]  # fmt: skip
EVAL = ["--eval-rouge", "--eval-rouge-args", '{"beam": 2, "max_len_b": 8}', "--eval-rouge-samples", "3"]
PLAIN = ["--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0"]


def rows(stdout):
    """Return {(kind, update): logged values}, without times and memory."""
    found = {}
    for text in re.findall(r"\| (?:train_inner|valid) \| (\{.*\})", stdout):
        row = {name.replace("valid_", ""): float(value or "nan") for name, value in json.loads(text).items()}
        apart = ("ups", "wps", "src_wps", "wall", "train_wall", "gb_peak", "epoch")
        kind = "valid" if "valid_loss" in text else "train"
        if kind == "valid":
            apart += ("wpb", "bsz")  # per validation step, which is a batch of each group of processes
        found[kind, row["num_updates"]] = {name: value for name, value in row.items() if name not in apart}
    return found


def train_on_ranks(size, argv, folder, timeout=240):
    """Run fairseq-train on ``size`` ranks; return their statuses and logs."""
    main = fairseq_command("train")
    words = ["fairseq-train", *argv, *SPREAD, "--distributed-world-size", size]
    statuses = end_ranks(start_ranks(lambda rank: main(), size, folder, words), timeout)
    return statuses, [(folder / f"log{rank}").read_text() for rank in range(size)]


def arguments(folder):
    """Return arguments for two updates of four documents, on any number of processes."""
    args = [folder, *TASK, *TRAIN, *EVAL, *PLAIN, "--verbose", "--batch-size", "2", "--clip-norm", "1"]
    return [*args, "--data-buffer-size", "0", "--max-update", "2", "--optimizer", "sgd", "--lr", "0.3"]


@pytest.fixture(scope="module")
def one(command, tmp_path_factory):
    """Train in one process; return the folder of data and checkpoint, and the log."""
    folder = tmp_path_factory.mktemp("one")
    write_corpus(folder, words=6, train=[60, 9, 33, 64, 5, 21, 47, 12])
    return folder, command("train", *arguments(folder), "--update-freq", 2, "--save-dir", folder).stdout


@pytest.mark.parametrize("size, backend", [(2, "legacy_ddp"), (4, "pytorch_ddp")])
def test_groups_of_two_ranks_train_like_one_process(one, tmp_path, size, backend):
    """Check losses, gradient norms, batch sizes, ROUGE in validation, and the weights after two updates."""
    folder, log = one
    shared = ["--sequence-parallel", 2, "--ddp-backend", backend, "--save-dir", tmp_path, "--update-freq", 4 // size]
    statuses, logs = train_on_ranks(size, [*arguments(folder), *shared], tmp_path)
    assert statuses == [0] * size, logs[0][-3000:]

    expected, found = rows(log), rows(logs[0])
    assert found.keys() == expected.keys() == {("train", 1), ("train", 2), ("valid", 2)}
    for moment, row in expected.items():
        assert found[moment] == pytest.approx(row, abs=0.002, nan_ok=True), moment
    weights, others = (load_checkpoint(save / "checkpoint_last.pt")["model"] for save in (folder, tmp_path))
    for name, tensor in weights.items():
        torch.testing.assert_close(others[name], tensor, rtol=0, atol=1e-5, msg=lambda text, name=name: name + text)


def test_attention_that_is_not_local_is_refused_on_every_rank(tmp_path):
    write_corpus(tmp_path, words=6)
    args = [tmp_path, *TASK, *TRAIN, "--attention", "full", "--sequence-parallel", "2", "--no-save"]
    statuses, logs = train_on_ranks(2, args, tmp_path)
    assert statuses == [1, 1]
    for log in logs:
        line = log.splitlines()[-1].partition("]: ")[2]  # torch puts [rank0] before it
        assert line.startswith("error: --sequence-parallel 2: the attention of FullAttention is not local")


def test_sequence_parallel_in_one_process_is_refused(command, tmp_path):
    write_corpus(tmp_path, words=6)
    done = command("train", tmp_path, *TASK, *TRAIN, "--sequence-parallel", 2, "--no-save", check=False)
    assert done.returncode == 1 and "--sequence-parallel 2 needs 2 processes" in done.stderr.splitlines()[-1]
