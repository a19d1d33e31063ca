"""Tests that a failed update is reported with its layer, its documents and settings that would fit."""

import logging
import re

import pytest
import torch
from torch import nn

from pyramidion_fairseq.checkpoints import load_checkpoint, save_checkpoint
from pyramidion_fairseq.models.encoder_layer import PyramidionEncoderLayer
from pyramidion_fairseq.models.pooling import RepresentationPooling
from pyramidion_fairseq.tasks.diagnosis import NonFiniteFinder, NotFiniteError, diagnosed
from tests.helpers import forked
from tests.helpers.training import TASK, TRAIN, training_log, write_corpus

WORDS = 40


def batch(ids, length=8, target=5):
    shape = len(ids)
    return {
        "id": torch.tensor(ids),
        "net_input": {"src_tokens": torch.zeros(shape, length, dtype=torch.long)},
        "target": torch.zeros(shape, target, dtype=torch.long),
    }


class Root(nn.Module):
    """A module whose output at 0 is finite, but whose gradient is infinite."""

    def forward(self, x):
        return {"states": [x.sqrt()]}


def find(model, inputs, ids, backward=True):
    with pytest.raises(NotFiniteError) as error, NonFiniteFinder(model), diagnosed(batch(ids), 6):  # noqa: PT012
        out = model(inputs)
        out = out["states"][0] if isinstance(out, dict) else out
        if backward:
            out.sum().backward()
    assert "\n" not in str(error.value) and "update 7" in str(error.value)
    assert NonFiniteFinder.active is None and not any(module._forward_hooks for module in model.modules())
    return str(error.value)


def test_first_non_finite_output_is_reported_with_its_documents():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    inputs = torch.randn(3, 2, 3)
    inputs[1, 0, 2] = float("nan")
    assert "NaN occurred first in the output of 0, for document 50 of" in find(model, inputs, [4, 50, 6])
    model[1].weight.data[0, 0] = float("inf")
    message = find(model, torch.randn(3, 2, 3), [4, 50, 6], backward=False)
    assert "occurred first in the output of 1, for documents 4, 50, 6 of" in message


def test_non_finite_gradients_are_reported_with_their_layer():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), Root())
    model[0].weight.data.zero_()
    message = find(model, torch.ones(2, 2), [8, 9])
    assert "occurred first in the gradient at the output of 0" in message


def test_error_names_the_whole_batch_if_no_layer_is_found():
    assert "batch was documents 1, 2" in find(nn.Linear(2, 2), torch.ones(2, 2), [1, 2])
    assert "and 5 more" in find(nn.Linear(2, 2), torch.ones(2, 2), list(range(25)))


def test_non_finite_finder_lets_other_errors_pass():
    model = nn.Linear(2, 2)
    with pytest.raises(KeyError), NonFiniteFinder(model):
        raise KeyError("other")


@pytest.mark.parametrize(
    "text", ["CUDA out of memory. Tried to allocate 2 GiB", "DefaultCPUAllocator: can't allocate memory: you tried"]
)
def test_out_of_memory_warning_names_lengths_and_smaller_settings(text, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(RuntimeError, match=re.escape(text)):  # noqa: SIM117
        with diagnosed(batch(range(6), length=4096, target=300), 0):
            raise RuntimeError(text)
    (record,) = caplog.records
    for part in ("6 documents of up to 4,096 tokens", "up to 300", "--batch-size 3", "--max-tokens 12288"):
        assert part in record.message


def test_out_of_memory_of_one_document_suggests_a_smaller_length(caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(RuntimeError), diagnosed(batch([0], length=8192), 0):
        raise RuntimeError("out of memory")
    assert "--max-source-positions 4096" in caplog.text and "--batch-size" not in caplog.text


def test_other_errors_and_dummy_batches_give_no_memory_warning(caplog):
    with pytest.raises(RuntimeError, match="shape"), diagnosed(batch([0]), 0):
        raise RuntimeError("shape mismatch")
    with pytest.raises(RuntimeError), diagnosed({}, 0):
        raise RuntimeError("out of memory")
    assert not caplog.records


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, words=WORDS)
    return folder


def test_training_that_is_not_finite_ends_with_one_line(command, data, tmp_path):
    folder = tmp_path / "checkpoints"
    train = ["train", data, *TRAIN, *TASK, "--save-dir", folder]
    command(*train, "--max-update", "2")
    state = load_checkpoint(folder / "checkpoint_last.pt")
    state["model"]["encoder.layers.1.fc2.bias"][3] = float("nan")
    save_checkpoint(state, folder / "checkpoint_last.pt")
    done = command(*train, "--max-update", "4", check=False)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "not finite in update 3: NaN occurred first in the output of encoder.layers.1.fc2, for documents" in line
    assert "Traceback" not in done.stderr.split("error:")[1]
    assert (folder / "crash.pt").exists()


@pytest.mark.parametrize("module", ["attention", "pooling"])
def test_training_continues_after_a_batch_that_is_too_large(data, tmp_path, module):
    """Check that fairseq leaves the batch out and makes the next updates."""
    calls = []

    def main():
        owner = PyramidionEncoderLayer if module == "attention" else RepresentationPooling
        forward = owner.forward

        def fails_once(*args, **kwargs):
            calls.append(1)
            if len(calls) == 8:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return forward(*args, **kwargs)

        owner.forward = fails_once
        forked.fairseq_command("train")()

    argv = ["fairseq-train", data, *TRAIN, *TASK, "--no-save", "--max-update", "6", "--disable-validation"]
    done = forked.run(main, argv)
    assert done.returncode == 0, done.stderr[-2000:]
    assert " documents of up to" in done.stdout and "attempting to recover from OOM" in done.stdout
    assert sorted(update for _, update in training_log(done.stdout)) == [1, 2, 3, 4, 5, 6]
