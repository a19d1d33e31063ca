"""Tests that the environment of the tests is complete and its packages fit each other."""

import re
import subprocess
import sys
from importlib import metadata

from tests.helpers.paths import ROOT


def run(*arguments):
    """Run a new Python; return its exit status and output."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_transformers_can_be_imported():
    """Check it because transformers imports an installed torchaudio, which fails if built for another torch."""
    status, output = run("-c", "from transformers import BartForConditionalGeneration as model; print(model.__name__)")
    assert (status, output.splitlines()[-1:]) == (0, ["BartForConditionalGeneration"]), output[-3000:]


def test_every_requirement_of_packages_but_torchaudio_is_met():
    """Check all but torchaudio, which only fairseq's speech models need."""
    _, output = run("-m", "pip", "--disable-pip-version-check", "check")
    missing = [line for line in output.splitlines() if "torchaudio" not in line]
    assert missing in ([], ["No broken requirements found."]), output


def test_setup_declares_the_requirements_of_fairseq():
    """Check all but torchaudio and build requirements, because fairseq is installed without dependencies."""
    declared = (ROOT / "setup.py").read_text(encoding="utf-8")
    asked = [need for need in metadata.requires("fairseq-fixed") if "extra ==" not in need]
    names = {re.match(r"[\w-]+", need).group() for need in asked} - {"torchaudio", "cython", "cffi"}
    assert len(names) >= 10
    assert not [name for name in names if not re.search(rf"[\"']{name}\b", declared)]
