"""Tests that versions which do not work are reported when the package is imported."""

import re
import subprocess
import sys
from importlib import metadata

import pytest

from pyramidion_fairseq.utils import requirements
from tests.helpers.paths import ROOT

FIXED = "fairseq-fixed>=0.12.3.1,<0.13"


def installed(monkeypatch, **changes):
    def version(name):
        found = changes.get(name.replace("-", "_"), "9.9" if "fairseq" not in name else "0.12.3.1")
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.paper("software")
def test_check_accepts_the_installed_versions():
    requirements.check_versions()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"torch": "2.5.1+cu121"}, "needs torch>=2.6, but torch 2.5.1+cu121 is installed: pip install 'torch>=2.6'"),
        ({"numpy": "1.21.2"}, "but numpy 1.21.2 is installed"),
        ({"fairseq_fixed": "0.13.0"}, "needs fairseq-fixed>=0.12.3.1,<0.13, but fairseq-fixed 0.13.0 is installed"),
        ({"fairseq_fixed": "0.12.2"}, "needs fairseq-fixed>=0.12.3.1,<0.13, but fairseq-fixed 0.12.2 is installed"),
        ({"fairseq_fixed": None, "fairseq": "0.10.2"}, "but fairseq 0.10.2 is installed"),
        ({"fairseq_fixed": None, "fairseq": None}, "needs fairseq-fixed>=0.12.3.1,<0.13, which is not installed"),
        ({"sentencepiece": None}, "needs sentencepiece>=0.1.96, which is not installed"),
    ],
)
def test_check_reports_missing_or_unsupported_versions_in_one_line(monkeypatch, changes, message):
    installed(monkeypatch, **changes)
    with pytest.raises(requirements.VersionError, match=re.escape(message)) as error:
        requirements.check_versions()
    assert "\n" not in str(error.value)


def test_message_of_a_missing_fairseq_installs_it_without_dependencies(monkeypatch):
    installed(monkeypatch, fairseq_fixed=None, fairseq=None)
    message = "not installed: pip install --no-deps --no-build-isolation 'fairseq-fixed>=0.12.3.1,<0.13'"
    with pytest.raises(requirements.VersionError, match=re.escape(message)):
        requirements.check_versions()


@pytest.mark.parametrize("version", ["2.6", "2.6.0a0", "2.13.0+cpu", "3.0.0.dev20260101"])
def test_check_accepts_supported_versions_of_torch(monkeypatch, version):
    installed(monkeypatch, torch=version)
    requirements.check_versions()


def test_setup_and_docs_declare_the_required_versions():
    declared = (ROOT / "setup.py").read_text("utf-8")
    installing = (ROOT / "docs" / "installation.md").read_text("utf-8")
    needed = {name: version for oldest, _ in requirements.REQUIRED for name, version in oldest.items()}
    for oldest, broken in requirements.REQUIRED:
        for name, version in oldest.items():
            given = f"{name}>={version}" + (f",<{broken}" if broken else "")
            pin = f"fairseq=={version}" if name == "fairseq" else given
            assert f'"{pin}"' in declared or f"'{pin};" in declared, pin
    sentence = "torch {torch} or later, numpy {numpy} or later, fairseq {fairseq} or fairseq-fixed {fairseq-fixed}"
    assert f"{sentence.format_map(needed)} (below 0.13)" in installing and f'"{FIXED}"' in installing
    assert FIXED in (ROOT / "scripts" / "versions.py").read_text("utf-8")
    trouble = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    assert f"needs torch>={needed['torch']}," in trouble
    for page in ("docs/architecture.md", "pyramidion_fairseq/compat/patches.py"):  # these do not repeat the numbers
        assert not re.search(r"\b0\.12\.\d", (ROOT / page).read_text("utf-8")), page


def test_check_accepts_fairseq_instead_of_fairseq_fixed(monkeypatch):
    installed(monkeypatch, fairseq_fixed=None, fairseq="0.12.2")
    requirements.check_versions()


def test_versions_are_checked_before_torch_is_imported():
    code = (
        "import importlib.metadata as m, sys; m.version = lambda name: '0.1'\n"
        "try:\n    import pyramidion_fairseq\n"
        "except ImportError as error:\n    print(error, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "pyramidion_fairseq needs torch>=2.6, but torch 0.1 is installed: pip install 'torch>=2.6' False"
    )
