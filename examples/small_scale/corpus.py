"""The corpus that all rows share, prepared where it is not yet."""

from __future__ import annotations

import sys
from pathlib import Path

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.scoring.lead import lead_baseline, mean_words
from pyramidion_fairseq.scoring.text_files import read_lines
from pyramidion_fairseq.vocabularies import digest

from . import process

PREPARE = Path(__file__).resolve().parents[2] / "preprocess" / "prepare.py"
SPLITS = {"train": ("train",), "valid": ("valid", "val", "validation", "dev"), "test": ("test",)}


def corpus(data: Path, output: Path, vocabulary: int) -> Path:
    """Return the folder with ``data-bin/``, ``sentencepiece.model`` and ``text/``.

    Args:
        data: such a folder, the ``data-bin/`` in it, or one with JSON lines or other files that prepare.py reads,
            named after the splits.
        output: where a corpus of files is prepared, in ``data/``.
        vocabulary: symbols, where it is prepared.

    Raises:
        PyramidionError: neither.
    """
    for folder in (data, data.parent):
        if (folder / "data-bin" / "dict.source.txt").exists() and (data == folder or data.name == "data-bin"):
            return _complete(folder)
    if not data.is_dir():
        raise PyramidionError(f"--data {data}: no such folder")
    files = {split: _file(data, names) for split, names in SPLITS.items()}
    if not all(files.values()):
        raise PyramidionError(
            f"--data {data} is neither a folder that preprocess/prepare.py wrote (with data-bin/) nor one with files "
            "named after the splits: train.*, valid.* or val.*, test.*"
        )
    arguments = [f"--{split}={file}" for split, file in files.items()]
    command = [sys.executable, str(PREPARE), str(output / "data"), *arguments, "--vocab-size", str(vocabulary)]
    process.logger.info("preparing %s (log: %s)", data, output / "prepare.log")
    process.run(command, output / "prepare.log")
    return _complete(output / "data")


def _file(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((file for name in names for file in sorted(folder.glob(f"{name}.*"))), None)


def _complete(folder: Path) -> Path:
    for name in (
        "sentencepiece.model",
        "text/test.source",
        "text/test.target",
        "data-bin/test.source-target.source.idx",
    ):
        if not (folder / name).exists():
            raise PyramidionError(f"{folder} has no {name}: prepare it with preprocess/prepare.py, with a test split")
    return folder


def fingerprint(folder: Path) -> str:
    """Return what tells one prepared corpus from another: a hash of its pieces and of the test split."""
    return digest(
        *(str(folder / name) for name in ("data-bin/dict.source.txt", "text/test.source", "text/test.target"))
    )


def lead(folder: Path) -> tuple[list[str], int]:
    """Return the baseline: every test document's first words, as many as a mean reference has, and how many these are.

    The rule is that of ``pyramidion-rouge --lead``.
    """
    documents, references = (read_lines(folder / "text" / f"test.{side}") for side in ("source", "target"))
    words = mean_words(references)
    return lead_baseline(documents, words), words
