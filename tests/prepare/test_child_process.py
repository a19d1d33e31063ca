"""Tests of the programs that prepare.py starts."""

import resource
import sys

import pytest

from pyramidion_fairseq.prepare.child_process import run_child
from pyramidion_fairseq.prepare.errors import PrepareError


def test_run_child_reports_the_last_line_of_output_as_the_reason(tmp_path, monkeypatch):
    """Check that standard output is not buffered, so that the error message is the last line of the log."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import sys; print('first'); sys.exit('no such thing')"]
    with pytest.raises(PrepareError, match=rf"^the step failed: no such thing \(full log: {log}\)$"):
        run_child(command, str(log), str(tmp_path), "the step")
    assert log.read_text() == "first\nno such thing\n"


def test_run_child_reports_why_its_log_cannot_be_written(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(PrepareError, match=r"^the step failed: File too large \(full log"):
            run_child([sys.executable, "-c", "print(1)"], str(tmp_path / "log"), str(tmp_path), "the step")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
