"""Tests of the stock commands on a small corpus: train, resume, generate, interactive, validate."""

import json
import re
from argparse import Namespace

import numpy as np
import pytest
import torch

from pyramidion_fairseq.checkpoints import load_checkpoint
from pyramidion_fairseq.cli.convert import main as convert
from tests.helpers.corpora import write_split
from tests.helpers.models import make_dictionary
from tests.helpers.paths import DATA, ROOT
from tests.helpers.training import (
    ARCH,
    BEAM,
    LENGTHS,
    SIZES,
    TASK,
    TRAIN,
    USER_DIR,
    flags,
    summaries,
    training_log,
    write_corpus,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, words=40)
    return folder


@pytest.fixture(scope="module")
def trained(command, data, tmp_path_factory):
    """Train three epochs without interruption; return the checkpoint folder and the output."""
    folder = tmp_path_factory.mktemp("checkpoints")
    done = command("train", data, *TASK, *TRAIN, "--save-dir", folder, "--max-epoch", 3)
    return folder, done.stdout


def test_training_reads_every_document_and_logs_how_many_it_cuts(trained):
    _, stdout = trained
    cut = sum(n > 64 for n in LENGTHS["train"])
    assert f"train: {cut} of 40 documents cut to 64 tokens" in stdout
    assert "valid: 1 of 5 documents cut to 64 tokens" in stdout
    assert "skipped" not in stdout
    losses = training_log(stdout)
    assert len(losses) == 3 * 7 + 3  # 40 documents in batches of 6, and 3 validations
    assert losses["valid", 21] < losses["valid", 7] < losses["train", 1]


@pytest.mark.parametrize("stop_at", [4, 10, 17])
def test_resumed_run_equals_an_uninterrupted_one(command, data, trained, tmp_path, stop_at):
    """Compare losses and weights bit for bit, also when stopped after the first epoch."""
    args = [data, *TASK, *TRAIN, "--save-dir", tmp_path, "--save-interval-updates", stop_at]
    first = command("train", *args, "--max-update", stop_at)
    second = command("train", *args, "--max-epoch", 3)
    assert f"@ {stop_at} updates" in second.stdout
    resumed = {**training_log(first.stdout), **training_log(second.stdout)}
    for moment, loss in training_log(trained[1]).items():
        assert resumed[moment] == loss, moment
    ours, theirs = (torch.load(f / "checkpoint_last.pt", weights_only=False)["model"] for f in (tmp_path, trained[0]))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def using(trained):
    """Return the options of every command that uses the checkpoint, without any length."""
    return [*USER_DIR, *TASK, "--path", trained[0] / "checkpoint_best.pt", "--cpu"]


def test_generate_takes_lengths_from_the_checkpoint_and_loses_no_document(command, data, using):
    done = command("generate", data, *using, *BEAM, "--batch-size", 4, fresh=True)
    assert "test: 1 of 5 documents cut to 64 tokens" in done.stdout + done.stderr
    assert sorted(summaries(done.stdout)) == [0, 1, 2, 3, 4]
    alone = command("generate", data, *using, *BEAM, "--batch-size", 1)
    assert summaries(alone.stdout) == summaries(done.stdout)


def test_interactive_and_validate_run_and_print_alignment_is_refused(command, data, using):
    documents = "\n".join(["w1 w2 w3", "", " ".join(["w5"] * 500)]) + "\n"
    done = command("interactive", data, *using, *BEAM, "--buffer-size", 3, "--batch-size", 3, stdin=documents)
    assert sorted(summaries(done.stdout)) == [0, 1, 2]
    done = command("generate", data, *using, *BEAM, "--print-alignment", check=False)
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith("error: --print-alignment")
    done = command("validate", data, *using, "--batch-size", 2)
    assert re.search(r"valid \|.*loss [\d.]+", done.stdout)


@pytest.mark.parametrize("buffer_size", [1, 2, 9])
def test_interactive_reads_one_document_from_each_line(command, data, using, tmp_path, buffer_size):
    """Check CRs, at which stock fairseq ends a document, and invalid UTF-8, at which it fails."""
    (tmp_path / "documents").write_bytes(b"w1\r\n\nw2\rw3\xc2\x85w4\nw5 \xff\n\xe2\x80\xa8w6")
    options = [*using, *BEAM, "--buffer-size", buffer_size, "--input", tmp_path / "documents"]
    done = command("interactive", data, *options)
    assert sorted(summaries(done.stdout)) == [0, 1, 2, 3, 4]
    assert f"{tmp_path / 'documents'}, line 4: replaced invalid UTF-8" in done.stdout
    piped = command("interactive", data, *options[:-2], stdin="w1\r\n\nw2\rw3\u0085w4\nw5 \ufffd\n\u2028w6")
    assert summaries(piped.stdout) == summaries(done.stdout)
    refused = command("interactive", data, *options[:-2], stdin="w1\rw2\rw3", check=False)
    assert refused.stderr.strip().splitlines()[-1].startswith("error: standard input: its lines end in CR alone")


def test_stock_translation_task_trains_with_left_padding(command, data, tmp_path):
    """Check the stock task, which pads documents on the left and refuses summaries that are too long."""
    stock = ["--truncate-source", "--skip-invalid-size-inputs-valid-test", "--required-batch-size-multiple", 1]
    done = command("train", data, *TRAIN, *stock, "--save-dir", tmp_path, "--max-update", 3)
    assert {("train", 1), ("train", 2), ("train", 3)} <= set(training_log(done.stdout))
    using = [*USER_DIR, "--path", tmp_path / "checkpoint_last.pt", "--cpu", "--batch-size", 2]
    using += ["--truncate-source", "--max-source-positions", 40, "--max-target-positions", 20, "--max-len-b", 5]
    assert sorted(summaries(command("generate", data, *using).stdout)) == [0, 1, 2, 3, 4]


def test_hydra_train_builds_the_named_architecture(command, data, tmp_path):
    """Check it because Hydra fills every field first; the name alone must still give its pooling schedule."""
    small = [f"+model.{name}={value}" for name, value in SIZES.items() if not name.endswith(("layers", "positions"))]
    done = command("hydra-train", f"common.user_dir={ROOT}/pyramidion_fairseq", "common.cpu=true",
        "criterion=cross_entropy", "optimizer=adam", "lr_scheduler=fixed", "optimization.lr=[0.003]",
        "optimization.max_update=2", "dataset.batch_size=4", f"checkpoint.save_dir={tmp_path}/checkpoints",
        "+task._name=long_document_summarization", f"+task.data={data}", "+model._name=deeppyramidion", *small,
        f"hydra.run.dir={tmp_path}", fresh=True)  # fmt: skip
    state = torch.load(tmp_path / "checkpoints" / "checkpoint_last.pt", weights_only=False)
    assert "encoder.poolings.2.scorer.proj.weight" in state["model"], done.stdout
    assert "encoder.poolings.3.scorer.proj.weight" in state["model"]
    assert state["cfg"]["model"]["pooling_schedule"] == "2:2048,3:512"
    using = [*USER_DIR, *TASK, "--path", tmp_path / "checkpoints" / "checkpoint_last.pt", "--cpu"]
    assert sorted(summaries(command("generate", data, *using, *BEAM).stdout)) == [0, 1, 2, 3, 4]


def test_converted_published_checkpoint_generates_and_fine_tunes(command, data, tmp_path):
    """Check weights of the published code, loaded by fairseq's own loader."""
    golden = np.load(DATA / "published_model.npz")
    state = {name[3:]: torch.from_numpy(golden[name]) for name in golden.files if name.startswith("sd|")}
    arguments = Namespace(**json.loads(str(golden["args"])))
    torch.save({"model": state, "args": arguments}, tmp_path / "in.pt")
    convert(["published", str(tmp_path / "in.pt"), str(tmp_path / "ours.pt")])
    write_corpus(tmp_path, words=100)
    using = [*USER_DIR, *TASK, "--path", tmp_path / "ours.pt", "--cpu", "--batch-size", 3]
    assert sorted(summaries(command("generate", tmp_path, *using, *BEAM).stdout)) == [0, 1, 2, 3, 4]
    model = load_checkpoint(tmp_path / "ours.pt")["cfg"]["model"]
    same = ("_layers", "_embed_dim", "_attention_heads", "_positions", "_size", "_schedule")
    sizes = flags(
        **{name: value for name, value in model.items() if name.endswith(same) and type(value) in (int, str)}
    )
    tune = ["--arch", "deeppyramidion", *sizes, "--decoder-positions", "--finetune-from-model", tmp_path / "ours.pt"]
    steps = ["--optimizer", "adam", "--lr", 0.001, "--batch-size", 4, "--max-update", 1, "--cpu"]
    done = command("train", tmp_path, *USER_DIR, *TASK, *tune, *steps, "--save-dir", tmp_path / "tuned")
    assert "loading pretrained model" in done.stdout


def test_ensemble_of_models_with_different_schedules_generates(command, data, trained, tmp_path):
    longer = [*ARCH[:-4], *flags(pooling_schedule="1:12", dropout=0.1)]
    command("train", data, *TASK, *TRAIN, *longer, "--save-dir", tmp_path, "--max-update", 1)
    paths = f"{trained[0] / 'checkpoint_best.pt'}:{tmp_path / 'checkpoint_last.pt'}"
    done = command("generate", data, *USER_DIR, *TASK, "--path", paths, "--cpu", *BEAM, "--batch-size", 4)
    assert sorted(summaries(done.stdout)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("longest", [8192, 20000])
def test_documents_of_1_to_20000_tokens_train_and_generate(command, tmp_path, longest):
    """Check a narrow DeepPyramidion at its own lengths: no document fails or is dropped."""
    lengths, words = [1, 512, 513, 2048, 8192, 20000], list(range(4, 40))
    for side in ("source", "target"):
        make_dictionary(40).save(str(tmp_path / f"dict.{side}.txt"))
    for split in ("train", "valid", "test"):
        documents = [[*(words * (n // 36 + 1))[: n - 1], 2] for n in lengths]
        write_split(tmp_path, split, documents, [[5, 6, 2]] * len(lengths))
    narrow = flags(**{name: 8 if name.endswith("dim") else 2 for name in SIZES if name.endswith(("dim", "heads"))})
    arch = ["--arch", "deeppyramidion", *narrow, "--max-source-positions", longest]
    save = ["--save-dir", tmp_path / "checkpoints", "--max-update", 2, "--no-epoch-checkpoints"]
    steps = ["--optimizer", "adam", "--lr", 0.01, "--batch-size", 3, "--log-format", "json"]
    done = command("train", tmp_path, *USER_DIR, *TASK, *arch, *steps, *save, "--cpu")
    cut = sum(n > longest for n in lengths)
    assert f"train: {cut} of 6 documents cut to {longest} tokens" in done.stdout
    path = ["--path", tmp_path / "checkpoints" / "checkpoint_last.pt"]
    done = command("generate", tmp_path, *USER_DIR, *TASK, *path, *BEAM, "--batch-size", 3, "--cpu")
    assert sorted(summaries(done.stdout)) == list(range(6))


def test_invalid_schedule_or_missing_split_ends_training_in_one_line(command, data, tmp_path):
    for arguments, message in (
        ([data, *TASK, *TRAIN, "--pooling-schedule", "2:9,1:4"], "layers must ascend"),
        ([data, *TASK, *TRAIN, "--valid-subset", "dev"], "no documents in split 'dev'"),
    ):
        done = command("train", *arguments, "--save-dir", tmp_path, check=False)
        assert done.returncode == 1
        assert done.stderr.strip().splitlines()[-1].startswith("error: ") and message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["generate", "interactive"])
def test_min_len_above_the_longest_summary_is_refused_in_one_line(command, data, using, name):
    for lengths, message in (
        (["--max-len-b", 10], "min_len 20 is above the longest summary, 10 tokens (max_len_b is 10): lower it"),
        (
            ["--max-len-a", 0.01, "--max-len-b", 10],
            "min_len is above the longest summary of a document, max_len_a times",
        ),
        (
            ["--max-len-b", 90, "--min-len", 32],
            "min_len 32 is above the longest summary, 31 tokens (the model writes 32",
        ),
    ):
        done = command(name, data, *using, "--min-len", 20, *lengths, check=False, stdin="w1 w2\n")
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert [line for line in done.stderr.splitlines() if line.startswith(f"error: {message}")], done.stderr


def test_from_pretrained_loads_a_trained_checkpoint_and_translates(data, trained):
    from pyramidion_fairseq import PyramidionModel

    hub = PyramidionModel.from_pretrained(str(trained[0]), "checkpoint_best.pt", data_name_or_path=str(data))
    assert hub.max_positions == (64, 32)
    texts = hub.translate(["w1 w2 w3", "w5 " * 500], beam=2, max_len_b=5)
    assert len(texts) == 2
