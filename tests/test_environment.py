"""The environment of the tests is whole: nothing in it was built for another version of what stands beside it."""

import re
import subprocess
import sys
from importlib import metadata

from tests.helpers.paths import ROOT


def run(*arguments):
    """(exit status, output) of a new Python."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_transformers_can_be_imported():
    """Which imports torchaudio where it is installed, and fails where that was built for another torch."""
    status, output = run("-c", "from transformers import BartForConditionalGeneration as model; print(model.__name__)")
    assert (status, output.splitlines()[-1:]) == (0, ["BartForConditionalGeneration"]), output[-3000:]


def test_every_package_has_what_it_asks_for_but_torchaudio():
    """That is for fairseq's speech models; the other needs of fairseq are in the lock and in setup.py."""
    _, output = run("-m", "pip", "--disable-pip-version-check", "check")
    missing = [line for line in output.splitlines() if "torchaudio" not in line]
    assert missing in ([], ["No broken requirements found."]), output


def test_setup_declares_what_fairseq_needs():
    """It is installed without its own list: all that is there, but torchaudio and what only building it takes."""
    declared = (ROOT / "setup.py").read_text(encoding="utf-8")
    asked = [need for need in metadata.requires("fairseq-fixed") if "extra ==" not in need]
    names = {re.match(r"[\w-]+", need).group() for need in asked} - {"torchaudio", "cython", "cffi"}
    assert len(names) >= 10
    assert not [name for name in names if not re.search(rf"[\"']{name}\b", declared)]
