"""Tests of continued runs: they stop where an uninterrupted run does, and keep the metric of their best checkpoint."""

import math
import re

import pytest
import torch

from pyramidion_fairseq.checkpoints import load_checkpoint
from tests.helpers import forked
from tests.helpers.forked import Forked, fairseq_command
from tests.helpers.training import TASK, TRAIN, write_corpus

#: Options with which nothing is learned, so that no validation is better than the first.
STILL = ["--lr", 0, "--max-epoch", 9]
PATIENCE = [*STILL, "--patience", 3]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, words=40, train=[9] * 12, valid=[9, 5], test=[9])
    return folder


def arguments(data, folder, *options):
    return [data, *TASK, *TRAIN, "--verbose", "--save-dir", folder, *options]


def epochs(output):
    """Return the numbers of the epochs that ended in this log."""
    return [int(number) for number in re.findall(r"end of epoch (\d+) ", output)]


def killed(data, folder, log, pattern, count, *options):
    """Start a run, kill it when the pattern is in its log that many times, and return the log."""
    with open(log, "wb") as file:
        words = ["fairseq-train", *arguments(data, folder, *options)]
        process = Forked(fairseq_command("train"), words, file, file)
        process.kill_after(log, pattern, count, 0)
    return log.read_text()


@pytest.mark.parametrize("moment", [b"Start iterating over samples", b"begin validation"])
def test_killed_run_continues_its_patience_count(command, data, tmp_path, moment):
    undisturbed = command("train", *arguments(data, tmp_path / "undisturbed", *PATIENCE)).stdout
    assert epochs(undisturbed) == [1, 2, 3, 4] and "hasn't improved for last 3 runs" in undisturbed
    assert epochs(killed(data, tmp_path / "save", tmp_path / "log", moment, 4, *PATIENCE)) == [1, 2, 3]
    continued = command("train", *arguments(data, tmp_path / "save", *PATIENCE)).stdout
    assert epochs(continued) == [4] and "hasn't improved for last 3 runs" in continued


def test_run_stopped_by_patience_continues_only_with_more_patience(command, data, tmp_path):
    command("train", *arguments(data, tmp_path, *PATIENCE))
    last = tmp_path / "checkpoint_last.pt"
    before = last.read_bytes()
    again = command("train", *arguments(data, tmp_path, *PATIENCE)).stdout
    assert not epochs(again) and last.read_bytes() == before
    assert "this run has finished: no better validation in the last 3 (--patience 3); to continue it, raise" in again
    assert epochs(command("train", *arguments(data, tmp_path, *STILL, "--patience", 5)).stdout) == [5, 6]
    assert epochs(command("train", *arguments(data, tmp_path, *STILL[:2], "--max-epoch", 8)).stdout) == [7, 8]


def test_run_that_reached_max_update_makes_no_further_update(command, data, tmp_path):
    """Check a last checkpoint of the last update, after which stock fairseq makes one more update at every start."""
    command("train", *arguments(data, tmp_path, *STILL[:2], "--max-update", 3))
    last = tmp_path / "checkpoint_last.pt"
    before = last.read_bytes()
    again = command("train", *arguments(data, tmp_path, *STILL[:2], "--max-update", 3)).stdout
    assert "this run has finished: it has made 3 updates (--max-update 3); to continue it, raise that limit" in again
    assert not epochs(again) and last.read_bytes() == before
    more = command("train", *arguments(data, tmp_path, *STILL[:2], "--max-update", 4)).stdout
    assert set(re.findall(r'num_updates": "(\d+)"', more)) == {"4"}


def test_run_that_reached_stop_time_hours_makes_no_further_update(command, data, tmp_path):
    """Check that no update is added, as stock fairseq does at every start, and that fine-tuning starts at 0 hours."""
    hours = ["--max-epoch", 3, "--stop-time-hours"]
    command("train", *arguments(data, tmp_path, *STILL[:2], *hours, 1e-7))
    last = tmp_path / "checkpoint_last.pt"
    before = last.read_bytes()
    again = command("train", *arguments(data, tmp_path, *STILL[:2], *hours, 1e-7)).stdout
    assert re.search(r"this run has finished: it has trained for \S+ hours \(--stop-time-hours 1e-07\); to", again)
    assert not epochs(again) and last.read_bytes() == before
    assert epochs(command("train", *arguments(data, tmp_path, *STILL[:2], *hours, 1)).stdout) == [1, 2, 3]
    state = load_checkpoint(last)
    state["extra_state"]["previous_training_time"] = 7200.0
    torch.save(state, tmp_path / "long.pt")
    tuning = [*STILL[:2], *hours, 1, "--finetune-from-model", tmp_path / "long.pt"]
    assert epochs(command("train", *arguments(data, tmp_path / "tuned", *tuning)).stdout) == [1, 2, 3]


def test_another_update_freq_reads_the_rest_of_the_epoch(command, data, tmp_path):
    """Check 12 documents: 5 updates of 1, one of 4, and one of 3, which stock fairseq leaves out, or it fails."""
    one = [*STILL[:2], "--batch-size", 1, "--save-interval-updates", 5]
    command("train", *arguments(data, tmp_path, *one, "--max-update", 5))
    done = command("train", *arguments(data, tmp_path, *one, "--max-epoch", 1, "--update-freq", 4)).stdout
    assert re.findall(r'train_inner \| .*?"bsz": "(\d+)", "num_updates": "(\d+)"', done) == [("4", "6"), ("3", "7")]


@pytest.mark.parametrize("reset", ["--reset-meters", "--reset-optimizer", "--finetune-from-model"])
def test_resets_and_fine_tuning_reset_the_patience_count(command, data, tmp_path, reset):
    command("train", *arguments(data, tmp_path / "save", *PATIENCE))
    options = ["--finetune-from-model", tmp_path / "save" / "checkpoint_last.pt"] if "finetune" in reset else [reset]
    folder = tmp_path / ("tuned" if "finetune" in reset else "save")
    first = 1 if "finetune" in reset else 5
    found = epochs(command("train", *arguments(data, folder, *PATIENCE, *options)).stdout)
    assert found == [first, first + 1, first + 2, first + 3]


def test_checkpoint_without_optimizer_state_logs_that_it_is_reset(command, data, tmp_path):
    """Check the message; stock fairseq silently starts the warm-up again."""
    told = "checkpoint_last.pt has no optimizer state (--no-save-optimizer-state): the optimizer is reset, and the 2"
    command("train", *arguments(data, tmp_path, *STILL[:2], "--max-epoch", 1, "--no-save-optimizer-state"))
    assert told in command("train", *arguments(data, tmp_path, *STILL[:2], "--max-epoch", 2)).stdout
    assert told[:40] not in command("train", *arguments(data, tmp_path, *STILL[:2], "--max-epoch", 3)).stdout


def test_checkpoint_without_patience_count_continues_from_its_best_value(command, data, tmp_path):
    """Check a checkpoint of an older version, which does not have the number of validations without improvement."""
    command("train", *arguments(data, tmp_path, *STILL[:2], "--max-epoch", 3, "--patience", 9))
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")
    del state["extra_state"]["patience"]
    torch.save(state, tmp_path / "checkpoint_last.pt")
    assert epochs(command("train", *arguments(data, tmp_path, *PATIENCE)).stdout) == [4, 5, 6]


def test_reduce_lr_on_plateau_continues_as_in_an_undisturbed_run(command, data, tmp_path):
    """Check the scheduler's count, including the validation reported after the checkpoint was saved."""

    def rates(output):
        found = re.findall(r'\| train \| \{"epoch": (\d+).*?"train_lr": "([^"]+)"', output)
        return {int(epoch): float(rate) for epoch, rate in found}

    start = TRAIN.index("--lr-scheduler")
    others = [*TRAIN[:start], *TRAIN[start + 2 :]]
    scheduler = ["--lr-scheduler", "reduce_lr_on_plateau", "--lr-patience", 1, "--lr-shrink", 0.5]
    scheduler += ["--lr-threshold", 0.9, "--lr", 1e-3]  # almost no validation counts as better
    run = lambda folder, epoch: rates(  # noqa: E731
        command("train", data, *TASK, *others, *scheduler, "--save-dir", folder, "--max-epoch", epoch).stdout
    )
    undisturbed = run(tmp_path / "undisturbed", 6)
    assert len(set(undisturbed.values())) > 2
    pieces = [run(tmp_path / "save", epoch) for epoch in range(1, 7)]
    assert {epoch: rate for piece in pieces for epoch, rate in piece.items()} == undisturbed


@pytest.mark.parametrize(
    "then, now, names",
    [
        ([], ["--best-checkpoint-metric", "ppl"], ("smallest loss", "smallest ppl")),
        ([], ["--maximize-best-checkpoint-metric"], ("smallest loss", "largest loss")),
        (["--best-checkpoint-metric", "ppl"], [], ("smallest ppl", "smallest loss")),
    ],
)
def test_another_metric_resets_the_best_checkpoint(command, data, tmp_path, then, now, names):
    """Check that the old best value is dropped; ppl is larger than the loss, so that it would never be improved on."""
    training = ["--lr", 0.01]
    command("train", *arguments(data, tmp_path, *training, *then, "--max-epoch", 2))
    done = command("train", *arguments(data, tmp_path, *training, *now, "--max-epoch", 3)).stdout
    (line,) = [line for line in done.splitlines() if "checkpoint_best.pt was that of" in line]
    assert f"that of the {names[0]} and will be that of the {names[1]}" in line
    best, last = (load_checkpoint(tmp_path / f"checkpoint_{name}.pt") for name in ("best", "last"))
    assert best["extra_state"]["train_iterator"] == last["extra_state"]["train_iterator"]
    assert best["extra_state"]["best"] == best["extra_state"]["val_loss"]
    again = command("train", *arguments(data, tmp_path, *training, *now, "--max-epoch", 4)).stdout
    assert "checkpoint_best.pt was that of" not in again


def test_same_metric_keeps_the_best_value(command, data, tmp_path):
    command("train", *arguments(data, tmp_path, *STILL[:2], "--max-epoch", 1))
    before = load_checkpoint(tmp_path / "checkpoint_best.pt")["extra_state"]["best"]
    done = command("train", *arguments(data, tmp_path, "--lr", 50, "--reset-lr-scheduler", "--max-epoch", 2))
    best = load_checkpoint(tmp_path / "checkpoint_best.pt")["extra_state"]
    assert best["train_iterator"]["epoch"] == 2 and best["best"] == before  # the value at the end of the first epoch
    assert math.isfinite(before) and "was that of" not in done.stdout


UNUSABLE = {
    "extra_state is a text": lambda state: state.update(extra_state="x"),
    "extra_state is None": lambda state: state.update(extra_state=None),
    "no extra_state": lambda state: state.pop("extra_state"),
    "train_iterator is a number": lambda state: state["extra_state"].update(train_iterator=3),
    "epoch is a text": lambda state: state["extra_state"]["train_iterator"].update(epoch="x"),
    "epoch of 10^15": lambda state: state["extra_state"]["train_iterator"].update(epoch=10**15),
    "a negative position": lambda state: state["extra_state"]["train_iterator"].update(iterations_in_epoch=-5),
    "best is a text": lambda state: state["extra_state"].update(best="x"),
    "previous_training_time is a text": lambda state: state["extra_state"].update(previous_training_time="x"),
    "invalid metrics": lambda state: state["extra_state"].update(
        metrics={"train": [[1, 2]]},
        train_iterator={**state["extra_state"]["train_iterator"], "iterations_in_epoch": 1},
    ),
    "empty optimizer_history": lambda state: state.update(optimizer_history=[]),
    "empty optimizer state": lambda state: state.update(last_optimizer_state={}),
}


@pytest.fixture(scope="module")
def begun(command, data, tmp_path_factory):
    """Return the path of a checkpoint after one epoch."""
    folder = tmp_path_factory.mktemp("begun")
    command("train", *arguments(data, folder, "--lr", 0, "--max-epoch", 1))
    return folder / "checkpoint_last.pt"


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_training_state_is_a_one_line_error(data, begun, tmp_path, kind):
    state = torch.load(begun, weights_only=True)
    UNUSABLE[kind](state)
    torch.save(state, tmp_path / "checkpoint_last.pt")
    words = ["fairseq-train", *map(str, arguments(data, tmp_path, "--lr", 0, "--max-epoch", 2))]
    done = forked.run(fairseq_command("train"), words, "", 60)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "checkpoint_last.pt has no usable state of its run" in last


def test_weights_without_training_state_can_be_fine_tuned(command, data, begun, tmp_path):
    state = torch.load(begun, weights_only=True)
    torch.save({key: state[key] for key in ("cfg", "model")}, tmp_path / "weights.pt")
    words = ["--lr", 0, "--max-epoch", 1, "--finetune-from-model", tmp_path / "weights.pt"]
    command("train", *arguments(data, tmp_path, *words))
    found = load_checkpoint(tmp_path / "checkpoint_last.pt")
    assert found["extra_state"]["train_iterator"]["epoch"] == 2 and "no_record" not in found["extra_state"]
    assert all(torch.equal(found["model"][name], weight) for name, weight in state["model"].items())


def test_ema_of_a_run_without_one_starts_from_its_weights(command, data, tmp_path):
    """Check the case in which stock fairseq has deleted the weights and raises KeyError."""
    command("train", *arguments(data, tmp_path, "--max-update", 2))
    before = load_checkpoint(tmp_path / "checkpoint_last.pt")["model"]
    average = ["--store-ema", "--ema-decay", 0.5]
    log = command("train", *arguments(data, tmp_path, "--max-update", 3, *average)).stdout
    assert "the checkpoint has no moving average (--store-ema): it is initialised from the weights" in log
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")
    after, found = state["model"], state["extra_state"]["ema"]
    name = "decoder.layers.0.fc1.weight"
    assert not torch.equal(before[name], after[name])
    torch.testing.assert_close(found[name], (before[name] + after[name]) / 2)
    # a further run continues the average
    log = command("train", *arguments(data, tmp_path, "--max-update", 4, *average)).stdout
    assert "is initialised from the weights" not in log
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")
    torch.testing.assert_close(state["extra_state"]["ema"][name], (found[name] + state["model"][name]) / 2)


@pytest.mark.parametrize("scheduler", ["reduce_lr_on_plateau", "inverse_sqrt"])
def test_state_of_another_lr_scheduler_is_refused_unless_reset(command, data, tmp_path, scheduler):
    command("train", *arguments(data, tmp_path, "--max-update", 1))
    other = arguments(data, tmp_path, "--max-update", 2, "--lr-scheduler", scheduler, "--warmup-updates", 1)
    done = command("train", *other, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (
        1,
        [
            "error: the checkpoint to continue is of another --lr-scheduler: use the same one, or reset its state "
            "with --reset-lr-scheduler"
        ],
    )
    command("train", *other, "--reset-lr-scheduler")
    assert load_checkpoint(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 2


def test_changed_batches_within_an_epoch_are_warned_of(command, data, tmp_path):
    """Check 12 documents in batches of 6 after the first of two; between epochs there is no warning."""
    command("train", *arguments(data, tmp_path, "--max-update", 1))
    told = "--batch-size was 6, --seed was 7: this changes the batches of the current epoch, so that some documents"
    other = ["--batch-size", 4, "--seed", 8]
    for options, warned in (([], False), (other, True), ([*other, "--reset-dataloader"], False)):
        log = command("train", *arguments(data, tmp_path, "--max-update", 2, "--no-save", *options)).stdout
        assert (told in log) == warned
    log = command("train", *arguments(data, tmp_path, "--max-update", 2, "--no-save", "--max-tokens", 30)).stdout
    assert "--max-tokens was not given: this changes the batches of the current epoch" in log
    command("train", *arguments(data, tmp_path, "--max-update", 2))
    assert (
        "changes the batches of the current epoch"
        not in command("train", *arguments(data, tmp_path, "--max-epoch", 2, *other)).stdout
    )
