"""Stage 4: encoded text -> what fairseq-train reads, by the stock fairseq-preprocess, and a count of what it wrote."""

import array
import os
import struct
import sys
from typing import Any, Dict, List, Tuple

from .child_process import run_child
from .errors import PrepareError
from .pieces import FAIRSEQ_SPECIALS, dictionary_lines
from .vocabulary_stage import load_model

INDEX_MAGIC = b"MMIDIDX\x00\x00"


def binarise_stage(
    model: str, encoded: str, expected: Dict[str, Tuple[int, int]], workers: int, folder: str
) -> Dict[str, Any]:
    """Write ``data-bin/`` below ``folder``.

    Args:
        model: path of the sentencepiece model
        encoded: folder with the encoded files
        expected: ``split.side`` -> (documents, tokens with the closing </s>), which the result must have

    Returns:
        ``dictionary``: fairseq's vocabulary size, its four special symbols included.
    """
    scratch = os.path.dirname(folder)
    lines = dictionary_lines(load_model(model, model))
    dictionary = os.path.join(scratch, "dict.txt")
    with open(dictionary, "w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(line + "\n" for line in lines)
    destination = os.path.join(folder, "data-bin")
    log = os.path.join(scratch, "fairseq-preprocess.log")
    splits = {name.split(".")[0] for name in expected}
    # Relative to where it runs: fairseq-preprocess cuts the names of some files at commas.
    paths = [os.path.relpath(path, scratch) for path in (encoded, dictionary, destination)]
    command = preprocess_command(paths[0], sorted(splits), paths[1], paths[2], workers)
    run_child(command, log, scratch, "fairseq-preprocess")
    for name, counts in expected.items():
        split, side = name.split(".")
        path = os.path.join(destination, f"{split}.source-target.{side}.idx")
        found = index_counts(path)
        if found != counts:
            raise PrepareError(
                "fairseq-preprocess wrote {} documents and {} tokens of {}, not {} and {}: run again with "
                "--workers 1".format(*found, name, *counts)
            )
    return {"dictionary": len(lines) + len(FAIRSEQ_SPECIALS)}


def preprocess_command(encoded: str, splits: List[str], dictionary: str, destination: str, workers: int) -> List[str]:
    """Return the command line of fairseq-preprocess."""
    # It waits for its worker processes before it does its own share, so that N workers leave all but one core idle for
    # 1/N of the time: twice as many shares as cores keep that short.
    shares = workers if workers == 1 else 2 * workers
    command = [sys.executable, "-m", "fairseq_cli.preprocess", "--source-lang", "source", "--target-lang", "target"]
    for split in splits:
        command += [f"--{split}pref", os.path.join(encoded, split)]
    command += ["--srcdict", dictionary, "--joined-dictionary", "--padding-factor", "1", "--dataset-impl", "mmap"]
    return [*command, "--destdir", destination, "--workers", str(shares)]


def index_counts(path: str) -> Tuple[int, int]:
    """Return documents and tokens of an indexed data set, from its ``.idx`` file (PrepareError where it is none)."""
    try:
        with open(path, "rb") as stream:
            if stream.read(len(INDEX_MAGIC)) != INDEX_MAGIC:
                raise PrepareError(f"{path} is not what fairseq-preprocess should have written")
            _, _, documents = struct.unpack("<QBQ", stream.read(17))
            sizes = array.array("i")
            sizes.fromfile(stream, documents)
    except (OSError, EOFError) as error:
        raise PrepareError(f"fairseq-preprocess did not write {path}: {error}") from None
    if sys.byteorder == "big":
        sizes.byteswap()
    return documents, sum(sizes)


def totals(lengths: Dict[str, Any]) -> Tuple[int, int]:
    """Return documents and tokens of a histogram {tokens as str: documents}."""
    return sum(lengths.values()), sum(int(length) * count for length, count in lengths.items())
