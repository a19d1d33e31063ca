"""What a program that logs sees when it imports the package."""

import os
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

CONFIGURED = "import logging; logging.basicConfig(level=logging.INFO)\n"
#: As where tensorboardX is not installed.
IMPORTED = (
    "import sys; sys.modules['tensorboardX'] = None\nimport pyramidion_fairseq, logging\n"
    "from fairseq.tasks import text_to_speech; assert text_to_speech.SummaryWriter is None\n"
    "print(len(logging.root.handlers), logging.getLogger('fairseq.tasks.text_to_speech').level)"
)


@pytest.mark.parametrize("before, handlers", [("", 0), (CONFIGURED, 1)], ids=["plain", "configured"])
def test_importing_says_nothing_of_speech_and_leaves_logging_as_it_was(before, handlers):
    env = dict(os.environ, PYTHONWARNINGS="ignore")
    words = [sys.executable, "-c", before + IMPORTED]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, "tensorboardX" in done.stderr) == (0, f"{handlers} 0\n", False), done.stderr
