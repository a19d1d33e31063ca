"""Fixtures shared by all tests."""

import gc
import logging
import os
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fairseq import utils
from hydra.core.config_store import ConfigStore

import pyramidion_fairseq  # noqa: F401 -- registers everything with fairseq
from pyramidion_fairseq.models import PyramidionModel
from tests.helpers import composing, forked, needs
from tests.helpers.browser import chromium, new_page, open_report  # noqa: F401 -- fixtures
from tests.helpers.models import TINY, make_dictionary
from tests.helpers.paths import ROOT

torch.set_num_threads(1)  # tensors of tests are tiny: more threads would only wait
# Hydra copies this global store of all options whenever fairseq reads a command line, which takes half of the time.
# What the store returns is copied as well, so that copying the store is not needed.
ConfigStore.__deepcopy__ = lambda self, memo: self
composing.use()


def pytest_configure() -> None:
    """Refuse unknown names in PYRAMIDION_REQUIRE before any test runs."""
    needs.required()


def pytest_collection_modifyitems(items: list) -> None:
    """Put the files of tests/longest.txt first, in its order: a long file at the end leaves other processes idle."""
    files = (ROOT / "tests" / "longest.txt").read_text(encoding="utf-8").split()
    order = {ROOT / name: number for number, name in enumerate(files)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_collection_finish() -> None:
    """Freeze all objects, so that garbage collection does not visit them: this saves half a second each time.

    Also collect less often: a collection writes to all new objects, which copies the memory of forked processes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_unconfigure() -> None:
    """Unfreeze all objects, so that they are freed: nanobind prints those that are not."""
    gc.unfreeze()


def pytest_terminal_summary(terminalreporter) -> None:
    """Print a line for each reason of skipped tests, which says how to install what is missing."""
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].partition("Skipped: ")[2] for report in reports)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")


@pytest.fixture(autouse=True)
def logging_as_before():
    """Restore handlers and levels of logging after a test, as commands in this process change them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    ours = [logging.getLogger(name) for name in ("pyramidion_fairseq", "pyramidion_fairseq.compat")]
    levels = [logger.level for logger in ours]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for logger, before in zip(ours, levels):
        logger.setLevel(before)


@pytest.fixture
def dictionary():
    return make_dictionary(40)


@pytest.fixture
def tiny_model(dictionary):
    """Return a function that builds a tiny model in float64, in evaluation mode, with seeded weights."""

    def build(seed=0, **options):
        torch.manual_seed(seed)
        task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
        return PyramidionModel.build_model(Namespace(**{**TINY, **options}), task).double().eval()

    return build


@pytest.fixture
def exact_softmax(monkeypatch):
    """Remove the rounding to float32 from fairseq's softmax, so that float64 models can be compared to 1e-9."""
    monkeypatch.setattr(utils, "softmax", lambda x, dim, onnx_trace=False: F.softmax(x, dim=dim))
    monkeypatch.setattr(utils, "log_softmax", lambda x, dim, onnx_trace=False: F.log_softmax(x, dim=dim))


@pytest.fixture
def confident_model(tiny_model):
    """Return a function that builds a tiny model with weights large enough for varied summaries and lengths."""

    def build(seed=0, **options):
        model = tiny_model(**{"share_all_embeddings": False, **options})
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.7).add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        return model

    return build


@pytest.fixture
def random_tokens():
    """Return a function that makes a right-padded (B, T) batch of given lengths whose rows end with </s>."""

    def make(lengths, seed=0, words=40):
        generator = torch.Generator().manual_seed(seed)
        batch = torch.full((len(lengths), max(lengths)), 1)
        for row, length in zip(batch, lengths):
            row[:length] = torch.randint(4, words, (length,), generator=generator)
            row[length - 1] = 2
        return batch

    return make


@pytest.fixture(scope="session")
def command():
    """Return a function that runs a stock fairseq command in a process: command("train", ..., check=True).stdout.

    The process is forked from this one; with ``fresh=True`` a new process runs the installed script, with the GPUs
    of ``visible``.
    """

    def run(name, *args, check=True, stdin=None, fresh=False, visible="", **kwargs):
        if fresh:
            env = dict(os.environ, OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore", CUDA_VISIBLE_DEVICES=visible)
            script = Path(sys.executable).parent / f"fairseq-{name}"
            module = [sys.executable, "-m", f"fairseq_cli.{name.replace('-', '_')}"]  # wheels in a folder
            argv = [*([str(script)] if script.exists() else module), *map(str, args)]
            done = subprocess.run(argv, input=stdin, env=env, cwd=ROOT, capture_output=True, text=True, **kwargs)
        else:
            done = forked.run(forked.fairseq_command(name), [f"fairseq-{name}", *args], stdin, **kwargs)
        if check:
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    return run
