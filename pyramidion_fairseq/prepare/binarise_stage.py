"""Stage 4: run the stock fairseq-preprocess on the encoded text and check the number of documents and tokens."""

import array
import os
import shutil
import struct
import sys
from typing import Any, Dict, List, Optional, Tuple

from .child_process import run_child
from .dictionary_lines import FAIRSEQ_SPECIALS, dictionary_lines
from .errors import PrepareError
from .vocabulary_stage import load_model

INDEX_MAGIC = b"MMIDIDX\x00\x00"


def binarise_stage(
    model: str, encoded: str, expected: Dict[str, Tuple[int, int]], workers: int, folder: str
) -> Dict[str, Any]:
    """Write ``data-bin/`` below ``folder``.

    Args:
        model: path of the sentencepiece model
        encoded: folder with the encoded files
        expected: ``split.side`` -> (documents, tokens including </s>) that the result must have

    Returns:
        ``dictionary``: fairseq's vocabulary size, its four special symbols included.
    """
    scratch = os.path.dirname(folder)
    dictionary, size = write_dictionary(dictionary_lines(load_model(model, model)), scratch, "dict.txt")
    destination = os.path.join(folder, "data-bin")
    log = os.path.join(scratch, "fairseq-preprocess.log")
    splits = {name.split(".")[0] for name in expected}
    # Relative paths, as fairseq-preprocess splits some file names at commas.
    paths = [os.path.relpath(path, scratch) for path in (encoded, dictionary, destination)]
    command = preprocess_command(paths[0], sorted(splits), paths[1], paths[2], workers)
    run_child(command, log, scratch, "fairseq-preprocess")
    files = {".source-target.".join(name.split(".")) + ".idx": counts for name, counts in expected.items()}
    _check_counts(files, destination)
    return {"dictionary": size}


def write_dictionary(lines: List[str], folder: str, name: str) -> Tuple[str, int]:
    """Write a fairseq dictionary; return its path and its number of symbols, including fairseq's special ones."""
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(line + "\n" for line in lines)
    return path, len(lines) + len(FAIRSEQ_SPECIALS)


def binarise_labelled_stage(
    model: str,
    dest: str,
    expected: Dict[str, Tuple[int, int]],
    classes: Optional[List[str]],
    workers: int,
    folder: str,
) -> Dict[str, Any]:
    """Write ``data-bin/`` for the task sentence_prediction: ``input0/``, ``label/``, and ``input1/`` for pairs.

    Args:
        model: path of the sentencepiece model
        dest: folder with ``encoded/`` and ``text/``
        expected: ``split.side`` -> (documents, tokens including </s>) of the sides source and second
        classes: names of the classes in the order of their ids; None for regression
        workers: number of processes
        folder: output folder

    Returns:
        ``dictionary``: fairseq's vocabulary size, its four special symbols included.
    """
    scratch = os.path.dirname(folder)
    dictionary, size = write_dictionary(dictionary_lines(load_model(model, model)), scratch, "dict.txt")
    data = os.path.join(folder, "data-bin")
    splits = sorted({name.split(".")[0] for name in expected})
    for side, name in (("source", "input0"), ("second", "input1")):
        counts = {split: expected[f"{split}.{side}"] for split in splits if f"{split}.{side}" in expected}
        if counts:
            _binarise_one(os.path.join(dest, "encoded"), side, dictionary, os.path.join(data, name), counts, workers)
    documents = {split: expected[f"{split}.source"][0] for split in splits}
    if classes is not None:
        labels, _ = write_dictionary([f"{name} 1" for name in classes], scratch, "labels.txt")
        counts = {split: (count, 2 * count) for split, count in documents.items()}
        _binarise_one(os.path.join(dest, "text"), "target", labels, os.path.join(data, "label"), counts, workers)
        return {"dictionary": size}
    os.makedirs(os.path.join(data, "label"))
    for split in splits:
        shutil.copyfile(os.path.join(dest, "text", f"{split}.target"), os.path.join(data, "label", f"{split}.label"))
    return {"dictionary": size}


def _binarise_one(
    texts: str, side: str, dictionary: str, data: str, expected: Dict[str, Tuple[int, int]], workers: int
) -> None:
    """Write one side of all splits to ``data``; ``expected`` is split -> (documents, tokens)."""
    scratch = os.path.dirname(dictionary)
    paths = [os.path.relpath(path, scratch) for path in (dictionary, data)]
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--only-source"]
    for split in expected:
        command += [f"--{split}pref", os.path.relpath(os.path.join(texts, f"{split}.{side}"), scratch)]
    command += ["--srcdict", paths[0], "--padding-factor", "1", "--dataset-impl", "mmap", "--destdir", paths[1]]
    log = os.path.join(scratch, f"fairseq-preprocess-{os.path.basename(data)}.log")
    run_child([*command, "--workers", str(shares(workers))], log, scratch, "fairseq-preprocess")
    _check_counts({f"{split}.idx": counts for split, counts in expected.items()}, data)


def _check_counts(expected: Dict[str, Tuple[int, int]], data: str) -> None:
    """Raise PrepareError if fairseq-preprocess did not write ``expected``: file -> (documents, tokens)."""
    for name, counts in expected.items():
        found = index_counts(os.path.join(data, name))
        if found != counts:
            raise PrepareError(
                "fairseq-preprocess wrote {} documents and {} tokens for {}, expected {} and {}: run again with "
                "--workers 1".format(*found, name.rpartition(".")[0], *counts)
            )


def shares(workers: int) -> int:
    """Return ``--workers`` of fairseq-preprocess for a number of cores."""
    # The main process works on its share after those of its workers, so with N shares all but one core are idle for
    # 1/N of the time. Twice as many shares as cores shorten this.
    return workers if workers == 1 else 2 * workers


def preprocess_command(encoded: str, splits: List[str], dictionary: str, destination: str, workers: int) -> List[str]:
    """Return the command line of fairseq-preprocess."""
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--source-lang", "source", "--target-lang", "target"]
    for split in splits:
        command += [f"--{split}pref", os.path.join(encoded, split)]
    command += ["--srcdict", dictionary, "--joined-dictionary", "--padding-factor", "1", "--dataset-impl", "mmap"]
    return [*command, "--destdir", destination, "--workers", str(shares(workers))]


def index_counts(path: str) -> Tuple[int, int]:
    """Return the documents and tokens of a dataset, read from its ``.idx`` file; raise PrepareError if invalid."""
    try:
        with open(path, "rb") as stream:
            if stream.read(len(INDEX_MAGIC)) != INDEX_MAGIC:
                raise PrepareError(f"{path} is not an index file of fairseq-preprocess")
            _, _, documents = struct.unpack("<QBQ", stream.read(17))
            sizes = array.array("i")
            sizes.fromfile(stream, documents)
    except (OSError, EOFError) as error:
        raise PrepareError(f"fairseq-preprocess did not write {path}: {error}") from None
    if sys.byteorder == "big":
        sizes.byteswap()
    return documents, sum(sizes)


def totals(lengths: Dict[str, Any]) -> Tuple[int, int]:
    """Return the documents and tokens of a histogram {tokens as str: documents}."""
    return sum(lengths.values()), sum(int(length) * count for length, count in lengths.items())
