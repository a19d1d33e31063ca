"""Tests of benchmarks/throughput.py: its clock, the lengths of its documents, and its command."""

import json
import statistics
import subprocess
import sys
from argparse import Namespace

import pytest

from tests.helpers.paths import ROOT


@pytest.fixture
def pipeline():
    import pipeline

    return pipeline


class Work:
    """Calls that take a known time by :attr:`now`, a simulated clock in seconds."""

    now = 0.0

    def outer(self, fail=False):
        Work.now += 2
        self.inner()
        self.inner()
        if fail:
            raise ValueError
        return "done"

    def inner(self):
        Work.now += 5


def test_clock_counts_nested_stages_once(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline.time, "perf_counter", lambda: Work.now)
    clock = pipeline.Clock("cpu")
    for name in ("outer", "inner"):
        monkeypatch.setattr(Work, name, getattr(Work, name))  # undone afterwards
        clock.watch(Work, name, name)
    assert Work().outer() == "done"
    with pytest.raises(ValueError):
        Work().outer(fail=True)
    assert dict(clock.seconds) == {"outer": 4.0, "inner": 20.0}


def test_document_lengths_are_distributed_like_those_of_pubmed(pipeline):
    lengths = pipeline.lengths(1000)
    assert statistics.median(lengths) == pytest.approx(5014, rel=0.01)
    assert sum(length > 8192 for length in lengths) / 1000 == pytest.approx(0.107, abs=0.002)


@pytest.mark.soak
def test_throughput_benchmark_runs(tmp_path):
    size = ["--rounds", "1", "--documents", "2", "--tokens", "4", "--batch-size", "2"]
    command = [sys.executable, "benchmarks/throughput.py", "--device", "cpu", *size]
    flags = ["--variants", "deeppyramidion", "--output", str(tmp_path)]
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "throughput.json").read_text())["results"]["deeppyramidion"]
    assert result["documents"] == 2 and min(result["stages"].values()) >= 0
    assert result["stages"]["encoding"] > result["stages"]["text"] > 0
    assert (tmp_path / "throughput.png").exists()


@pytest.fixture
def throughput(pipeline, monkeypatch):
    import throughput

    monkeypatch.setattr(throughput.measure, "restart_with_allocator", lambda: None)
    return throughput


@pytest.mark.parametrize("option", ["--documents=0", "--batch-size=0", "--tokens=0", "--tokens=1"])
def test_zero_documents_batch_size_or_tokens_is_refused(throughput, monkeypatch, capsys, option):
    monkeypatch.setattr(sys, "argv", ["throughput.py", "--device=cpu", option])
    monkeypatch.setattr(throughput.pipeline, "write_corpus", None)
    with pytest.raises(SystemExit):
        throughput.main()
    assert "--documents, --batch-size and --beam must be at least 1, --tokens at least 2" in capsys.readouterr().err


def test_variant_killed_by_the_system_counts_as_out_of_memory(throughput, monkeypatch, tmp_path):
    args = Namespace(tokens=4, batch_size=1, beam=1, device="cpu", precision="float32")
    killed = subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr(throughput.subprocess, "run", lambda *words, **options: killed)
    done, failure = throughput.attempt(lambda: throughput.run(tmp_path, "deep_blockwise", args))
    assert done is None and failure == "out of memory"
