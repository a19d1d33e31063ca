"""Tests of summarising a folder of files by Ray Data on one machine."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from pyramidion_fairseq.cli import summarize
from tests.helpers.paths import EXAMPLES, ROOT

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason='needs Ray: pip install "pyramidion_fairseq[ray]"'
)
pytestmark = [pytest.mark.soak, needs_ray]
ARTICLES = EXAMPLES / "pubmed_small" / "articles.jsonl"


def run(*words):
    paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    # By default Ray's workers have a low priority: on a busy machine they would wait for hours.
    environment = dict(os.environ, PYTHONPATH=paths, OMP_NUM_THREADS="1", RAY_worker_niceness="0")
    command = [sys.executable, "examples/ray/summarize.py", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800)


def test_ray_writes_the_same_summaries_as_one_process_and_resumes(tmp_path):
    """Check JSON lines and Parquet, a document without text, which keeps its row, and a file that is kept."""
    from pyarrow import Table, parquet

    rows = [json.loads(line) for line in ARTICLES.read_text("utf-8").splitlines()]
    plain = [{"id": f"a{number}", "text": " ".join(row["article_text"])} for number, row in enumerate(rows)]
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    first, second = [plain[0], {"id": "bad", "text": None}, plain[1]], [plain[2], plain[0]]
    (source / "1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in first), "utf-8")
    parquet.write_table(Table.from_pylist(second), source / "2.parquet")
    done = run(source, output, "--workers", 2, "--rows", 2)
    assert done.returncode == 1, done.stderr[-3000:]
    assert done.stderr.splitlines()[-1].startswith("error: 1 of 5 documents have no summary"), done.stderr[-3000:]

    one = tmp_path / "one.jsonl"
    summarize.main([str(ARTICLES), "--device", "cpu", "--format", "jsonl", "--output", str(one)])
    expected = [json.loads(line) for line in one.read_text("utf-8").splitlines()]
    found = [json.loads(line) for line in (output / "1.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in found] == ["a0", "bad", "a1"]
    assert [row["error"] for row in found] == ["", "field text is null", ""] and found[1]["score"] is None
    table = parquet.read_table(output / "2.parquet").to_pylist()
    assert [row["id"] for row in table] == ["a2", "a0"]
    for row, number in ((found[0], 0), (found[2], 1), (table[0], 2), (table[1], 0)):
        assert row["summary"] == expected[number]["summary"] and row["tokens"] == expected[number]["tokens"]
        assert row["score"] == pytest.approx(expected[number]["score"], abs=1e-4)

    (output / "2.parquet").unlink()
    before = (output / "1.jsonl").stat().st_mtime_ns
    done = run(source, output, "--workers", 2)
    assert done.returncode == 0 and "1.jsonl: kept" in done.stderr, done.stderr[-3000:]
    assert parquet.read_table(output / "2.parquet").to_pylist()[0]["summary"] == table[0]["summary"]
    assert (output / "1.jsonl").stat().st_mtime_ns == before


def test_unreadable_files_and_lines_do_not_stop_the_others(tmp_path):
    """Check a line that is not JSON and a file that is not Parquet."""
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "1.parquet").write_text("no parquet")
    (source / "2.jsonl").write_text('{"id": "a", "text": "one two three"}\nno json\n')
    done = run(source, output, "--workers", 1)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: 1 of 2 files have no summaries: {source / '1.parquet'}"
    assert "Parquet magic bytes not found" in done.stderr
    found = [json.loads(line) for line in (output / "2.jsonl").read_text("utf-8").splitlines()]
    assert [row["error"] for row in found] == ["", "not JSON"] and not (output / "1.parquet").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--workers", "0"], "error: --workers must be at least 1, got 0"),
        (["--checkpoint", "nowhere.pt"], "error: there is no checkpoint nowhere.pt"),
    ],
)
def test_invalid_arguments_are_refused_before_ray_starts(tmp_path, words, message):
    done = run(tmp_path, tmp_path / "out", *words)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == message
