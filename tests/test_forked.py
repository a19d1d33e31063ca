"""Commands that are forked from the tests' process are as new ones, on a machine with GPUs too."""

import subprocess
import sys

import torch
from fairseq import utils

from tests.helpers import forked


def test_a_forked_command_asks_for_no_gpu(monkeypatch, tmp_path):
    """fairseq saves the state of the GPU's random numbers wherever torch says that there is a GPU, also with --cpu."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    done = forked.run(lambda: utils.set_torch_seed(1), ["fairseq-train"])
    assert done.returncode == 0, done.stderr
    script = tmp_path / "script.py"
    script.write_text("from fairseq import utils; utils.set_torch_seed(1)")
    done = forked.run_command([sys.executable, str(script)], stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
