"""Tests that commands forked from the tests' process behave like new ones, also on a machine with GPUs."""

import subprocess
import sys

import torch
from fairseq import utils

from tests.helpers import forked


def test_forked_command_sees_no_gpu(monkeypatch, tmp_path):
    """Check it because fairseq saves the GPU's random state, also with --cpu, if torch reports a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    done = forked.run(lambda: utils.set_torch_seed(1), ["fairseq-train"])
    assert done.returncode == 0, done.stderr
    script = tmp_path / "script.py"
    script.write_text("from fairseq import utils; utils.set_torch_seed(1)")
    done = forked.run_command([sys.executable, str(script)], stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
