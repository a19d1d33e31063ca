"""Tests of benchmarks/outputs.py and cells.py: results are written atomically, kept, and reused."""

import io
import json
import sys
from argparse import Namespace

import pytest


@pytest.fixture
def benchmarks():
    import cells
    import measure
    import outputs

    return Namespace(cells=cells, measure=measure, outputs=outputs)


class Closed(io.StringIO):
    """A standard output whose reader has closed it."""

    def write(self, text):
        raise BrokenPipeError


def test_check_folder_creates_a_folder_and_refuses_a_file(benchmarks, tmp_path):
    assert benchmarks.outputs.check_folder(tmp_path / "new" / "folder") == "" and (tmp_path / "new/folder").is_dir()
    assert not any((tmp_path / "new" / "folder").iterdir())
    (tmp_path / "file").write_text("precious")
    assert "file: it cannot be a folder (File exists)" in benchmarks.outputs.check_folder(tmp_path / "file")


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that nobody can write to")
def test_check_folder_refuses_an_unwritable_folder(benchmarks):
    assert "--output /proc/self: it cannot be written to (" in benchmarks.outputs.check_folder(
        benchmarks.outputs.Path("/proc/self")
    )


def test_results_are_written_although_standard_output_is_closed(benchmarks, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        benchmarks.measure.report("mine", "cpu", {"a": 1}, ["## Table"], tmp_path)
    assert json.loads((tmp_path / "mine.json").read_text())["results"] == {"a": 1}
    assert "## Table" in (tmp_path / "mine.md").read_text()
    with pytest.raises(BrokenPipeError):
        benchmarks.cells.Cells(tmp_path, "mine").get("hours of work", lambda: 2)
    assert json.loads((tmp_path / "mine_cells.json").read_text()) == {"hours of work": 2}


def test_cells_are_written_atomically(benchmarks, tmp_path, monkeypatch):
    cells = benchmarks.cells.Cells(tmp_path, "mine")
    cells.get("first", lambda: 1)
    path, before = tmp_path / "mine_cells.json", (tmp_path / "mine_cells.json").read_bytes()
    seen = []
    fsync = benchmarks.cells.write_text.__globals__["os"].fsync
    monkeypatch.setattr("os.fsync", lambda file: seen.append(path.read_bytes()) or fsync(file))
    cells.get("second", lambda: 2)
    assert seen == [before] and set(json.loads(path.read_text())) == {"first", "second"}


@pytest.mark.parametrize("content", ['{"first": 1, "sec', "[1]", "", "\x00"])
def test_damaged_cells_are_a_one_line_error(benchmarks, tmp_path, content):
    (tmp_path / "mine_cells.json").write_text(content)
    with pytest.raises(SystemExit, match=r"error: .*mine_cells.json .*JSON.*; remove it, or use another --output$"):
        benchmarks.cells.Cells(tmp_path, "mine")
    assert (tmp_path / "mine_cells.json").read_text() == content


def test_read_rows_removes_an_unfinished_row_and_refuses_damaged_rows(benchmarks, tmp_path):
    path = tmp_path / "rows.jsonl"
    assert benchmarks.outputs.read_rows(path) == [] and not path.exists()
    path.write_text('{"row": 1}\n{"row": 2}\n{"ro')
    assert benchmarks.outputs.read_rows(path) == [{"row": 1}, {"row": 2}]
    assert path.read_text() == '{"row": 1}\n{"row": 2}\n'
    for damaged in ('{"row"\n{"row": 2}\n', "1\n"):
        path.write_text(damaged)
        with pytest.raises(SystemExit, match=r"rows.jsonl is damaged: .*use another --output"):
            benchmarks.outputs.read_rows(path)
        assert path.read_text() == damaged
