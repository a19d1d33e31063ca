"""Tests of huge useless input: a gigabyte on one line, a million empty documents."""

import contextlib
import gzip
import json
import subprocess
import sys
import time

import pytest

from pyramidion_fairseq.cli import summarize
from tests.helpers.preprocessing import SCRIPT
from tests.helpers.summaries import article, write_model

pytestmark = pytest.mark.soak

GIGABYTE, MILLION = 1 << 30, 10**6
GOOD = [{"text": article(3, seed), "summary": article(1, seed)} for seed in range(40)]


def prepare(tmp_path, path, *options):
    """Run prepare.py in a new process; return its status, its standard error and its peak of memory in MB."""
    command = [sys.executable, str(SCRIPT), str(tmp_path / "dest"), "--input", str(path)]
    command += ["--vocab-size", "60", "--workers", "1", *options]
    with open(tmp_path / "err", "wb") as err:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=err)
    peak = 0.0
    while process.poll() is None:
        with contextlib.suppress(OSError), open(f"/proc/{process.pid}/status") as status:
            peak = max([peak, *(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))])
        time.sleep(0.02)
    return process.returncode, (tmp_path / "err").read_text(), peak


def skipped(tmp_path):
    return [json.loads(line) for line in (tmp_path / "dest" / "skipped.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


def summarise(folder, path, output):
    chosen = ["--checkpoint", str(folder), "--device", "cpu", "--min-len", "3", "--max-len-b", "6"]
    summarize.main([*chosen, "--input", str(path), "--output", str(output)])


@pytest.fixture(scope="module")
def gigabyte(tmp_path_factory):
    """Write a corpus whose 21st record has 1 GB, compressed to save disk space."""
    path = tmp_path_factory.mktemp("gigabyte") / "a.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for record in GOOD[:20]:
            file.write(json.dumps(record).encode() + b"\n")
        file.write(b'{"text": "')
        for _ in range(GIGABYTE >> 20):
            file.write(b"x" * (1 << 20))
        file.write(b'", "summary": "y"}\n')
        for record in GOOD[20:]:
            file.write(json.dumps(record).encode() + b"\n")
    return path


def test_prepare_skips_a_line_of_a_gigabyte_in_bounded_memory(tmp_path, gigabyte):
    code, err, peak = prepare(tmp_path, gigabyte)
    print(f"1 GB on one line: peak {peak:.0f} MB")
    assert code == 0, err
    assert [(row["line"], row["reason"]) for row in skipped(tmp_path)] == [(21, "line of more than 64 MB")]
    assert peak < 400  # two copies of a line of 64 MB, and Python's libraries


def test_summarize_refuses_a_line_of_a_gigabyte(tmp_path, gigabyte, folder):
    with pytest.raises(SystemExit, match=r"line 21 is longer than 64 MB"):
        summarise(folder, gigabyte, tmp_path / "out")
    assert (tmp_path / "out").read_text().count("\n") == 20


def test_prepare_lists_a_million_empty_documents_in_bounded_memory(tmp_path):
    path, empty = tmp_path / "a.jsonl", json.dumps({"text": "", "summary": "y"}) + "\n"
    path.write_text("".join(json.dumps(record) + "\n" for record in GOOD) + empty * MILLION)
    code, err, peak = prepare(tmp_path, path, "--max-bad-fraction", "1")
    print(f"a million empty documents: peak {peak:.0f} MB")
    assert code == 0 and f"left out {MILLION} records: {MILLION} x empty document" in err, err
    rows = skipped(tmp_path)
    assert len(rows) == MILLION and rows[-1]["line"] == MILLION + len(GOOD)
    report = json.loads((tmp_path / "dest" / "report.json").read_text())
    assert sum(split["source"]["documents"] for split in report["splits"].values()) == len(GOOD)
    assert peak < 400
    path.write_text(empty * MILLION)
    code, err, _ = prepare(tmp_path, path)
    assert code == 1 and err.splitlines()[-1].startswith("error: none of the first 1000 records is usable")


def test_summarize_writes_a_million_empty_summaries_for_empty_documents(tmp_path, folder):
    (tmp_path / "in").write_text("\n" * MILLION + article(3) + "\n")
    summarise(folder, tmp_path / "in", tmp_path / "out")
    lines = (tmp_path / "out").read_text().split("\n")
    assert len(lines) == MILLION + 2 and not any(lines[:MILLION]) and lines[MILLION]
