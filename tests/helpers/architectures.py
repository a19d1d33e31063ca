"""Run stock commands in this process, on a corpus for the named architectures."""

import contextlib
import io
import sys

import pytest
from fairseq import checkpoint_utils
from fairseq.logging import metrics
from fairseq_cli import train

from pyramidion_fairseq.models.architectures import fields_of
from tests.helpers.corpora import write_split
from tests.helpers.models import make_dictionary
from tests.helpers.paths import ROOT

NARROW = ["--encoder-attention-heads", "4", "--decoder-attention-heads", "4"]
for _side in ("encoder", "decoder"):
    NARROW += [f"--{_side}-embed-dim", "8", f"--{_side}-ffn-embed-dim", "8"]
NARROW_ENCODER = ["--encoder-attention-heads", "4", "--encoder-embed-dim", "8", "--encoder-ffn-embed-dim", "8"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Write documents of 1 to 1,500 tokens: longer than most poolings keep, shorter than some."""
    folder = tmp_path_factory.mktemp("corpus")
    for side in ("source", "target"):
        make_dictionary(40).save(str(folder / f"dict.{side}.txt"))
    for split in ("train", "valid", "test"):
        documents = [[*(list(range(4, 40)) * 42)[: n - 1], 2] for n in (1, 40, 600, 1500)]
        write_split(folder, split, documents, [[5, 6, 2]] * len(documents))
    return folder


def distinct(archs):
    """Return the first of each group of architectures that differ only in lengths and sizes of blocks."""
    first = {}
    for arch in archs:
        fields = fields_of(arch)
        for sizes in ("max_source_positions", "block_size", "index_stride"):
            fields.pop(sizes, None)
        steps = [step.split(":")[0] for step in fields.pop("pooling_schedule", "").split(",")]
        first.setdefault((*sorted(fields.items()), *steps), arch)
    return list(first.values())


def run(monkeypatch, main, *arguments):
    """Run a stock command's function in this process and return its standard output."""
    monkeypatch.setattr(sys, "argv", [f"fairseq-{main.__module__.split('.')[-1]}", *map(str, arguments)])
    if hasattr(checkpoint_utils.save_checkpoint, "best"):  # fairseq keeps it as long as the process lives
        del checkpoint_utils.save_checkpoint.best
    metrics.reset()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main()
    return out.getvalue()


def common(corpus, device):
    task = [corpus, "--user-dir", ROOT / "pyramidion_fairseq", "--task", "long_document_summarization"]
    where = ["--cpu"] if device == "cpu" else ["--distributed-world-size", 1]
    in_this_thread = ["--num-workers", 0, "--data-buffer-size", 0]  # waiting for other threads takes seconds
    return [*task, *where, *in_this_thread, "--batch-size", 2]


def train_two_updates(monkeypatch, corpus, folder, arch, device, *arguments):
    steps = ["--optimizer", "adam", "--lr", 0.01, "--max-update", 2, "--disable-validation"]
    save = ["--save-dir", folder, "--no-epoch-checkpoints"]
    run(monkeypatch, train.cli_main, *common(corpus, device), "--arch", arch, *NARROW, *steps, *save, *arguments)
    return folder / "checkpoint_last.pt"
