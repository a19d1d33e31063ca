"""The oldest and the newest torch and numpy that setup.py declares, each in a virtual environment of its own.

``python scripts/versions.py`` (``make versions``) installs every row of the matrix below ``build/versions`` and runs a
fast part of the tests in it; it prints a line for each, and its exit status is 1 where one failed. ``--torch-index``
says where old CPU builds of torch are: those of pip's own index bring 3 GB of CUDA libraries on Linux.
"""

from __future__ import annotations

import argparse
import functools
import logging
import re
import sys
from pathlib import Path

from steps import ROOT, FailedError, call, take

TESTS = [
    "tests/functional", "tests/contracts/test_poolers.py", "tests/contracts/test_scorers.py", "tests/test_task.py",
    "tests/test_checkpoints.py", "tests/test_whole_checkpoints.py", "tests/test_compat.py",
    "tests/test_requirements.py", "tests/test_diagnosis.py", "tests/text",
]  # fmt: skip
#: Of numpy, the first release with a wheel for a Python; before it, setup.py's own bound.
FIRST_NUMPY = {(3, 11): "1.23.2", (3, 12): "1.26.0", (3, 13): "2.1.0"}
#: What the tests need beside torch, numpy and fairseq.
OTHERS = ["omegaconf", "sentencepiece", "rouge-score", "pytest", "pytest-timeout", "hypothesis"]
#: And what fairseq needs, which is installed without its own list: that has torchaudio, which its speech models use.
OTHERS += ["bitarray", "hydra-core<1.4", "packaging", "regex", "sacrebleu", "scikit-learn", "tqdm"]

logger = logging.getLogger("versions")


def declared(name: str) -> str:
    """The oldest version of a distribution that setup.py takes."""
    return re.search(rf'"{name}>=([\d.]+)"', (ROOT / "setup.py").read_text(encoding="utf-8")).group(1)


def oldest_numpy() -> str:
    """setup.py's oldest numpy, or the oldest one that there is for this Python."""
    return FIRST_NUMPY.get(sys.version_info[:2], declared("numpy"))


def matrix(newest_torch: str | None) -> dict[str, tuple[str, str]]:
    """Row -> requirements of torch and numpy."""
    newest = f"torch=={newest_torch}" if newest_torch else "torch"
    oldest = f"numpy=={oldest_numpy()}"
    return {
        "newest": (newest, "numpy"),
        "oldest": (f"torch=={declared('torch')}.*", oldest),
        "newest-torch-oldest-numpy": (newest, oldest),
    }


def install(python: Path, torch: str, numpy: str, index: list, log: Path) -> None:
    """What scripts/bootstrap.sh installs, of these versions."""
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--prefer-binary"]
    call([*pip, *index, torch, numpy, "cython", "setuptools", "wheel"], log)
    fairseq = "fairseq-fixed>=0.12.3.1,<0.13" if sys.version_info >= (3, 11) else "fairseq==0.12.2"
    pinned = [torch, numpy]  # else another one would be installed over them
    call([*pip, *index, "--no-cache-dir", "--no-build-isolation", "--no-deps", fairseq], log, READTHEDOCS="1")
    call([*pip, *index, *OTHERS, *pinned], log)


def row(name: str, torch: str, numpy: str, folder: Path, index: list) -> str:
    """Install and test one row; returns what to say of it."""
    folder.mkdir(parents=True, exist_ok=True)
    python, log = folder / "venv" / "bin" / "python", folder / "log"
    log.write_text("", encoding="utf-8")
    if not python.exists():
        call([sys.executable, "-m", "venv", folder / "venv"], log)
    install(python, torch, numpy, index, log)
    code = "import numpy, torch; print('installed: torch', torch.__version__, 'numpy', numpy.__version__)"
    call([python, "-c", code], log)
    call([python, "-m", "pytest", "-p", "no:cacheprovider", *TESTS], log, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    text = log.read_text(encoding="utf-8")
    found = re.findall(r"^installed: (.*)$", text, re.M)[-1]
    return f"{found}: {re.findall(r'^.*passed.*$', text, re.M)[-1].strip('= ')}"


def nothing_installed(folder: Path) -> str:
    """A Python without torch must be told so in one line."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    log.write_text("", encoding="utf-8")
    call([sys.executable, "-m", "venv", "--clear", "--without-pip", folder / "venv"], log)
    try:
        call([folder / "venv" / "bin" / "python", "-c", "import pyramidion_fairseq"], log, PYTHONPATH=str(ROOT))
    except FailedError as error:
        if "pyramidion_fairseq needs torch" in str(error):
            return str(error).partition(" (all of it")[0]
        raise
    raise FailedError("the package was imported without torch")


def main(argv: list[str] | None = None) -> int:
    """Run the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"default: nothing-installed {' '.join(matrix(None))}")
    parser.add_argument("--newest-torch", metavar="X.Y.Z", help="in place of the newest that there is")
    parser.add_argument("--torch-index", metavar="URL", help="index of torch's CPU builds, beside pip's own")
    parser.add_argument("--find-links", metavar="DIR", help="folder with wheels")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "versions", help="default: build/versions")
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    known = matrix(args.newest_torch)
    rows = args.rows or ["nothing-installed", *known]
    if unknown := set(rows) - {"nothing-installed", *known}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    index = ["--extra-index-url", args.torch_index] if args.torch_index else []
    index += ["--find-links", args.find_links] if args.find_links else []
    folders = {name: (args.folder / name).resolve() for name in rows}
    steps = {
        name: functools.partial(nothing_installed, folder)
        if name == "nothing-installed"
        else functools.partial(row, name, *known[name], folder, index)
        for name, folder in folders.items()
    }
    return take(steps, logger)


if __name__ == "__main__":
    sys.exit(main())
