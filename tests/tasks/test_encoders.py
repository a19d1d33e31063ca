"""Tests of training encoders by stock commands: sentence_prediction, masked_lm, resuming, fine-tuning, Hydra."""

import json
import re

import pytest
import torch
from fairseq.data.indexed_dataset import make_builder
from fairseq.models.roberta import RobertaModel
from fairseq_cli import train

from pyramidion_fairseq.cli.classify import main as classify
from tests.helpers.architectures import run
from tests.helpers.bart import randomise
from tests.helpers.models import make_dictionary
from tests.helpers.paths import ROOT
from tests.helpers.training import flags

SIZES = flags(encoder_layers=3, encoder_embed_dim=16, encoder_ffn_embed_dim=32, encoder_attention_heads=2)
SMALL = [*SIZES, *flags(lsg_block_size=8, lsg_sparse_block_size=8, max_positions=64)]
POOLED = flags(pooling_schedule="1:16,2:6")
COMMON = ["--user-dir", ROOT / "pyramidion_fairseq", "--cpu", "--num-workers", 0, "--data-buffer-size", 0]
COMMON += ["--optimizer", "adam", "--lr", 0.002, "--batch-size", 4, "--seed", 3, "--log-format", "json"]
COMMON += ["--required-batch-size-multiple", 1, "--log-interval", 1]
WORDS = 40


def write(folder, split, rows):
    folder.mkdir(parents=True, exist_ok=True)
    builder = make_builder(str(folder / f"{split}.bin"), "mmap", vocab_size=WORDS)
    for row in rows:
        builder.add_item(torch.tensor(row))
    builder.finalize(str(folder / f"{split}.idx"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write documents of 10 to 60 words: class 0 has word 5 in its second half, class 1 word 6."""
    folder = tmp_path_factory.mktemp("classes")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 24), ("valid", 8)):
        rows, labels, seconds = [], [], []
        for number in range(count):
            row = torch.randint(8, WORDS - 1, (10 + 50 * number // count,), generator=generator)
            row[len(row) // 2 :: 3] = 5 + number % 2
            rows.append([*row.tolist(), 2])
            labels.append([4 + number % 2, 2])
            seconds.append([7, 8 + number, 2])
        write(folder / "one" / "input0", split, rows)
        write(folder / "two" / "input0", split, [[*row[:20], 2] for row in rows])
        write(folder / "two" / "input1", split, seconds)
        write(folder / "lm", split, rows)
        for name in ("one", "two"):
            write(folder / name / "label", split, labels)
        number_folder = folder / "numbers" / "label"
        number_folder.mkdir(parents=True, exist_ok=True)
        write(folder / "numbers" / "input0", split, rows)
        (number_folder / f"{split}.label").write_text("".join(f"{n % 2 - 0.5}\n" for n in range(count)))
    words = make_dictionary(WORDS - 1)  # the task adds <mask>
    for place in ("one/input0", "two/input0", "two/input1", "numbers/input0", "lm"):
        words.save(str(folder / place / "dict.txt"))
    for name in ("one", "two"):
        (folder / name / "label" / "dict.txt").write_text("bad 1\ngood 1\n")
    return folder


def sentence_prediction(data, name="one", classes=2, arch="lsg_roberta_base"):
    task = ["--arch", arch, "--task", "sentence_prediction", "--criterion", "sentence_prediction"]
    return [data / name, *task, *COMMON, *SMALL, "--num-classes", classes, "--init-token", 0]


def updates(command, *arguments):
    """Run fairseq-train and return its log."""
    return command("train", *arguments).stdout


def losses(out):
    rows = [json.loads(row) for row in re.findall(r"\| train_inner \| (\{.*\})", out)]
    return {int(row["num_updates"]): float(row["loss"]) for row in rows}


@pytest.mark.parametrize("options", [[], POOLED, [*POOLED, "--attention", "full"]], ids=["whole", "pooled", "full"])
def test_classifier_learns_and_a_resumed_run_has_the_same_losses(command, data, tmp_path, options):
    given = [*sentence_prediction(data), *options, "--dropout", 0, "--attention-dropout", 0, "--keep-last-epochs", 1]
    whole = losses(updates(command, *given, "--save-dir", tmp_path / "a", "--max-update", 12))
    assert sorted(whole) == list(range(1, 13)) and whole[12] < whole[1]
    first = losses(updates(command, *given, "--save-dir", tmp_path / "b", "--max-update", 6))
    rest = losses(updates(command, *given, "--save-dir", tmp_path / "b", "--max-update", 12))
    assert {**first, **rest} == whole
    checkpoint = torch.load(tmp_path / "a" / "checkpoint_last.pt")
    assert checkpoint["extra_state"]["labels"] == {"sentence_classification_head": "bad\ngood"}
    scorers = [name for name in checkpoint["model"] if "scorer" in name]
    assert bool(scorers) == bool(options)


def test_trained_classifier_is_accurate_and_usable_by_the_command(command, data, tmp_path, capsys):
    given = [*sentence_prediction(data), *POOLED, "--lr", 0.01, "--dropout", 0, "--no-epoch-checkpoints"]
    out = updates(command, *given, "--save-dir", tmp_path, "--max-epoch", 8)
    accuracies = [float(a) for a in re.findall(r'"valid_accuracy": "([\d.]+)"', out)]
    assert accuracies[-1] >= 75
    dictionary = make_dictionary(WORDS - 1)
    text = [" ".join(dictionary[i] for i in [9, 12, 30, 11, word, 20, 14, word, 17, 13, word]) for word in (5, 6)]
    (tmp_path / "documents.txt").write_text("\n".join(text) + "\n")
    classify(["--checkpoint", str(tmp_path), "--device", "cpu", str(tmp_path / "documents.txt")])
    labels = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert labels == ["bad", "good"]


def test_pairs_of_texts_and_regression_train(command, data, tmp_path):
    pairs = [
        *sentence_prediction(data, "two"),
        "--separator-token",
        2,
        "--max-update",
        2,
        "--save-dir",
        tmp_path / "a",
    ]
    assert len(losses(updates(command, *pairs))) == 2
    numbers = [*sentence_prediction(data, "numbers", 1), "--regression-target", "--max-update", 2]
    assert len(losses(updates(command, *numbers, "--save-dir", tmp_path / "b"))) == 2
    assert "labels" not in torch.load(tmp_path / "b" / "checkpoint_last.pt")["extra_state"]


def test_classifier_fine_tunes_a_masked_lm_with_new_poolings_and_positions(command, monkeypatch, data, tmp_path):
    """Check that scorers are new, that positions are repeated, and that masked_lm refuses poolings."""
    task = ["--arch", "lsg_roberta_base", "--task", "masked_lm", "--criterion", "masked_lm"]
    given = [data / "lm", *task, *COMMON, *SMALL, "--tokens-per-sample", 48]
    found = losses(updates(command, *given, "--save-dir", tmp_path / "a", "--max-update", 4))
    assert len(found) == 4
    longer = [*sentence_prediction(data), "--max-positions", 100, *POOLED, "--max-update", 2]
    restore = ["--restore-file", tmp_path / "a" / "checkpoint_last.pt", "--reset-optimizer", "--reset-dataloader"]
    restore += ["--reset-meters", "--reset-lr-scheduler", "--save-dir", tmp_path / "b"]
    assert len(losses(updates(command, *longer, *restore))) == 2
    before, after = (torch.load(tmp_path / n / "checkpoint_last.pt")["model"] for n in "ab")
    name = "encoder.sentence_encoder.embed_positions.weight"
    assert (len(before[name]), len(after[name])) == (66, 102)
    with pytest.raises((SystemExit, Exception), match="has no vector for every token"):
        run(monkeypatch, train.cli_main, *given, *POOLED, "--save-dir", tmp_path / "c", "--max-update", 1)


def test_classifier_fine_tunes_a_roberta_of_fairseq(command, data, tmp_path):
    from argparse import Namespace

    dictionary = make_dictionary(WORDS - 1)
    dictionary.add_symbol("<mask>")
    args = Namespace(encoder_layers=3, encoder_embed_dim=16, encoder_ffn_embed_dim=32, encoder_attention_heads=2)
    stock = randomise(RobertaModel.build_model(Namespace(**vars(args), max_positions=30), Namespace(
        source_dictionary=dictionary)))  # fmt: skip
    state = {"args": Namespace(arch="roberta_base"), "model": stock.state_dict(), "optimizer_history": [{
        "criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}]}  # fmt: skip
    torch.save({**state, "extra_state": {"train_iterator": {"epoch": 1}}}, tmp_path / "roberta.pt")
    restore = ["--restore-file", tmp_path / "roberta.pt", "--reset-optimizer", "--reset-dataloader", "--reset-meters"]
    given = [*sentence_prediction(data), *POOLED, *restore, "--reset-lr-scheduler", "--lr", 1e-9, "--max-update", 1]
    updates(command, *given, "--save-dir", tmp_path / "a")
    after = torch.load(tmp_path / "a" / "checkpoint_last.pt")["model"]
    name = "encoder.sentence_encoder.layers.2.fc1.weight"
    torch.testing.assert_close(after[name], stock.state_dict()[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (["--num-classes", 1], r"--num-classes 1, but the data has 2 labels \(label/dict.txt\): give --num-classes 2"),
        (["--pooling-schedule", "3:4"], r"pools after the last layer \(3\)"),
    ],
)
def test_invalid_options_of_classification_are_refused_in_one_line(monkeypatch, data, tmp_path, change, message):
    with pytest.raises(Exception, match=message) as error:
        run(monkeypatch, train.cli_main, *sentence_prediction(data), *change, "--save-dir", tmp_path)
    assert "\n" not in str(error.value)


def test_resuming_with_other_labels_is_refused(monkeypatch, data, tmp_path):
    import shutil

    given = [*sentence_prediction(data), "--save-dir", tmp_path / "a"]
    run(monkeypatch, train.cli_main, *given, "--max-update", 1)
    shutil.copytree(data / "one", tmp_path / "other")
    (tmp_path / "other" / "label" / "dict.txt").write_text("good 1\nbad 1\n")
    with pytest.raises(Exception, match="was trained with other labels than the data's: class 0 is 'good', not 'bad'"):
        run(monkeypatch, train.cli_main, tmp_path / "other", *given[1:], "--max-update", 2)


def test_encoder_without_a_task_is_refused(monkeypatch, data, tmp_path):
    with pytest.raises(Exception, match="--arch lsg_roberta_base needs --task sentence_prediction"):
        run(monkeypatch, train.cli_main, data / "one", "--arch", "lsg_roberta_base", *COMMON, "--save-dir", tmp_path)


def test_hydra_train_trains_an_encoder(command, data, tmp_path):
    import yaml

    sizes = {"encoder_layers": 3, "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 32, "encoder_attention_heads": 2}
    config = {
        "common": {"user_dir": str(ROOT / "pyramidion_fairseq"), "cpu": True},
        "model": {
            "_name": "lsg_roberta_long_pooled",
            **sizes,
            "pooling_schedule": "1:16",
            "lsg_block_size": 8,
            "lsg_sparse_block_size": 8,
        },
        "task": {
            "_name": "sentence_prediction",
            "data": str(data / "one"),
            "num_classes": 2,
            "init_token": 0,
            "max_positions": 100,
        },
        "criterion": {"_name": "sentence_prediction"},
        "optimizer": {"_name": "adam"},
        "lr_scheduler": {"_name": "fixed"},
        "optimization": {"lr": [0.001], "max_update": 2},
        "dataset": {"batch_size": 4, "num_workers": 0},
        "checkpoint": {"save_dir": str(tmp_path / "saved")},
    }
    (tmp_path / "encoder.yaml").write_text("# @package _global_\n" + yaml.safe_dump(config))
    where = [
        "--config-dir",
        tmp_path,
        "--config-name",
        "encoder",
        f"hydra.run.dir={tmp_path}",
        "hydra.job.chdir=false",
    ]
    done = command("hydra-train", *where)
    state = torch.load(tmp_path / "saved" / "checkpoint_last.pt", weights_only=False)
    assert state["optimizer_history"][-1]["num_updates"] == 2, done.stdout
    assert state["cfg"]["model"]["_name"] == "lsg_roberta_long_pooled"
    assert len(state["model"]["encoder.sentence_encoder.embed_positions.weight"]) == 102
