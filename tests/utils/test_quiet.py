"""Tests that a program sees no needless logs and warnings of other packages."""

import os
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

CONFIGURED = "import logging; logging.basicConfig(level=logging.INFO)\n"
#: Imports as if tensorboardX were not installed.
IMPORTED = (
    "import sys; sys.modules['tensorboardX'] = None\nimport pyramidion_fairseq, logging\n"
    "from fairseq.tasks import text_to_speech; assert text_to_speech.SummaryWriter is None\n"
    "print(len(logging.root.handlers), logging.getLogger('fairseq.tasks.text_to_speech').level)"
)


@pytest.mark.parametrize("before, handlers", [("", 0), (CONFIGURED, 1)], ids=["plain", "configured"])
def test_import_prints_nothing_of_tensorboard_and_keeps_logging_as_it_was(before, handlers):
    env = dict(os.environ, PYTHONWARNINGS="ignore")
    words = [sys.executable, "-c", before + IMPORTED]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, "tensorboardX" in done.stderr) == (0, f"{handlers} 0\n", False), done.stderr


#: Summarises with sources, and converts options as reading an older checkpoint does.
USED = (
    "from pyramidion_fairseq.cli.common import one_line_exit_and_log\n"
    "from fairseq.dataclass.utils import convert_namespace_to_omegaconf\nfrom argparse import Namespace\n"
    "from pyramidion_fairseq import PyramidionModel\nmodel = PyramidionModel.from_pretrained('pubmed-small')\n"
    "model.summarize(['One two three four.', 'Five.'], with_provenance=True, max_len_b=8, min_len=1)\n"
    "with one_line_exit_and_log('pyramidion-convert'):\n    convert_namespace_to_omegaconf(Namespace())"
)


def test_summarising_and_converting_options_print_no_warnings():
    env = dict(os.environ, OMP_NUM_THREADS="1")
    env.pop("PYTHONWARNINGS", None)
    done = subprocess.run([sys.executable, "-c", USED], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, "Warning" in done.stderr) == (0, False), done.stderr
