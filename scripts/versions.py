"""Test with the oldest and the newest torch and numpy that setup.py allows, and with releases of transformers.

Each torch has a virtual environment. The releases of transformers share one, where they load exported directories.

``python scripts/versions.py`` (``make versions``) installs each row of the matrix in ``build/versions``, runs a fast
part of the tests, and prints a line. The exit status is 1 if a row failed. ``--torch-index`` is an index with old CPU
builds of torch; those of pip's default index come with 3 GB of CUDA libraries on Linux.
"""

from __future__ import annotations

import argparse
import functools
import logging
import re
import sys
from pathlib import Path
from typing import Callable

from steps import ROOT, FailedError, call, take

TESTS = [
    "tests/functional", "tests/contracts/test_poolers.py", "tests/contracts/test_scorers.py",
    "tests/tasks/test_task.py",
    "tests/test_checkpoints.py", "tests/compat/test_whole_checkpoints.py", "tests/compat/test_compat.py",
    "tests/utils/test_requirements.py", "tests/tasks/test_diagnosis.py", "tests/text",
]  # fmt: skip
#: Tests to run with each of :data:`TRANSFORMERS`, releases that differ in how they load the code of a directory.
EXPORTED = ["tests/interop/bart/test_exported.py", "tests/interop/bart/test_exported_tokenizer.py"]
TRANSFORMERS = ["4.45.2", "4.53.3", "4.57.6", "5.0.0", "newest"]
#: Python -> the first numpy with a wheel for it; older Pythons use setup.py's bound.
FIRST_NUMPY = {(3, 11): "1.23.2", (3, 12): "1.26.0", (3, 13): "2.1.0"}
#: Packages that the tests need in addition to torch, numpy and fairseq.
OTHERS = ["omegaconf", "sentencepiece", "rouge-score", "pytest", "pytest-timeout", "hypothesis"]
#: Packages that fairseq needs. It is installed without its own list, which has torchaudio for speech models.
OTHERS += ["bitarray", "hydra-core<1.4", "packaging", "regex", "sacrebleu", "scikit-learn", "tqdm"]

logger = logging.getLogger("versions")


def declared(name: str) -> str:
    """Return the oldest version of a distribution that setup.py allows."""
    return re.search(rf'"{name}>=([\d.]+)"', (ROOT / "setup.py").read_text(encoding="utf-8")).group(1)


def oldest_numpy() -> str:
    """Return the oldest numpy that setup.py allows and that exists for this Python."""
    return FIRST_NUMPY.get(sys.version_info[:2], declared("numpy"))


def matrix(newest_torch: str | None) -> dict[str, tuple[str, str]]:
    """Return row -> requirements of torch and numpy."""
    newest = f"torch=={newest_torch}" if newest_torch else "torch"
    oldest = f"numpy=={oldest_numpy()}"
    return {
        "newest": (newest, "numpy"),
        "oldest": (f"torch=={declared('torch')}.*", oldest),
        "newest-torch-oldest-numpy": (newest, oldest),
    }


def install(python: Path, torch: str, numpy: str, index: list, log: Path) -> None:
    """Install the packages of scripts/bootstrap.sh in these versions."""
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--prefer-binary"]
    call([*pip, *index, torch, numpy, "cython", "setuptools", "wheel"], log)
    fairseq = "fairseq-fixed>=0.12.3.1,<0.13" if sys.version_info >= (3, 11) else "fairseq==0.12.2"
    pinned = [torch, numpy]  # else another one would be installed over them
    call([*pip, *index, "--no-cache-dir", "--no-build-isolation", "--no-deps", fairseq], log, READTHEDOCS="1")
    call([*pip, *index, *OTHERS, *pinned], log)


def prepare(folder: Path, log: Path) -> Path:
    """Create an empty log and, if missing, a virtual environment. Return its Python."""
    folder.mkdir(parents=True, exist_ok=True)
    log.write_text("", encoding="utf-8")
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        call([sys.executable, "-m", "venv", folder / "venv"], log)
    return python


def test(python: Path, tests: list[str], names: list[str], log: Path) -> str:
    """Run tests, and return the versions of the named packages and the result."""
    versions = ", ".join(f"'{name}', {name}.__version__" for name in names)
    call([python, "-c", f"import {', '.join(names)}; print('installed:', {versions})"], log)
    call([python, "-m", "pytest", "-p", "no:cacheprovider", *tests], log, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    text = log.read_text(encoding="utf-8")
    found = re.findall(r"^installed: (.*)$", text, re.M)[-1]
    return f"{found}: {re.findall(r'^.*passed.*$', text, re.M)[-1].strip('= ')}"


def row(name: str, torch: str, numpy: str, folder: Path, index: list) -> str:
    """Install and test a row, and return a description of the result."""
    log = folder / "log"
    python = prepare(folder, log)
    install(python, torch, numpy, index, log)
    return test(python, TESTS, ["torch", "numpy"], log)


def transformers_row(version: str, torch: str, folder: Path, index: list) -> str:
    """Install and test a release of transformers in the shared environment."""
    log = folder / f"log-{version}"
    python = prepare(folder, log)
    install(python, torch, "numpy", index, log)
    wanted = "transformers" if version == "newest" else f"transformers=={version}"
    call([python, "-m", "pip", "install", *index, "--upgrade", wanted, torch, "safetensors"], log)
    return test(python, EXPORTED, ["torch", "transformers"], log)


def nothing_installed(folder: Path) -> str:
    """Check that a Python without torch is be told so in one line."""
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


def known_steps(newest_torch: str | None, folder: Path, index: list) -> dict[str, Callable[[], str]]:
    """Return row -> function that installs and tests it."""
    steps: dict[str, Callable[[], str]] = {
        "nothing-installed": functools.partial(nothing_installed, folder / "nothing-installed")
    }
    for name, (torch, numpy) in matrix(newest_torch).items():
        steps[name] = functools.partial(row, name, torch, numpy, folder / name, index)
    torch = matrix(newest_torch)["newest"][0]
    for version in TRANSFORMERS:
        name = f"transformers-{version}"
        steps[name] = functools.partial(transformers_row, version, torch, folder / "transformers", index)
    return steps


def main(argv: list[str] | None = None) -> int:
    """Run the chosen rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"default: {' '.join(known_steps(None, Path(), []))}")
    parser.add_argument("--newest-torch", metavar="X.Y.Z", help="in place of the newest that there is")
    parser.add_argument("--torch-index", metavar="URL", help="index of torch's CPU builds, beside pip's own")
    parser.add_argument("--find-links", metavar="DIR", help="folder with wheels")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "versions", help="default: build/versions")
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    index = ["--extra-index-url", args.torch_index] if args.torch_index else []
    index += ["--find-links", args.find_links] if args.find_links else []
    known = known_steps(args.newest_torch, args.folder.resolve(), index)
    if unknown := set(args.rows) - set(known):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    steps = {name: known[name] for name in args.rows or known}
    return take(steps, logger)


if __name__ == "__main__":
    sys.exit(main())
