"""Programs that prepare.py starts."""

import sys

import pytest

from pyramidion_fairseq.prepare.child_process import run_child
from pyramidion_fairseq.prepare.errors import PrepareError


def test_the_reason_is_the_last_line_that_was_said(tmp_path, monkeypatch):
    """Standard output is not kept back until the program has said on the other one why it ends."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import sys; print('first'); sys.exit('no such thing')"]
    with pytest.raises(PrepareError, match=rf"^the step failed: no such thing \(all of its output: {log}\)$"):
        run_child(command, str(log), str(tmp_path), "the step")
    assert log.read_text() == "first\nno such thing\n"
