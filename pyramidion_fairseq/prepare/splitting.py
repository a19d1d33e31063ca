"""Split a corpus by hash, so that a document's split depends only on the document and the seed."""

import hashlib
import os
from typing import Dict, Sequence

BLOCK_BYTES = 1 << 16
#: Minimum documents of a validation or test split, but at most a tenth of the corpus.
ENOUGH = 20


def split_of(key: str, seed: int, valid_fraction: float, test_fraction: float) -> str:
    """Return train, valid or test for the document ``key`` (its id, or its position if it has none)."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2.0**64
    if position < valid_fraction:
        return "valid"
    return "test" if position < valid_fraction + test_fraction else "train"


def fill_empty_splits(
    prefixes: Dict[str, str],
    counts: Dict[str, int],
    wanted: Dict[str, bool],
    sides: Sequence[str] = ("source", "target"),
) -> Dict[str, int]:
    """Move documents from the end of the largest split to each wanted split that is too small.

    A split is too small below :data:`ENOUGH` documents or a tenth of the corpus, whichever is less, and at least one
    document. With fewer than three documents in total, all of them go to train.

    Args:
        prefixes: split -> path without the extension, such as ``.source``
        counts: split -> documents written
        wanted: split -> whether it must have documents
        sides: the files of a split

    Returns:
        The new counts.
    """
    counts = dict(counts)

    def move(origin: str, target: str) -> None:
        for side in sides:
            move_last_line(f"{prefixes[origin]}.{side}", f"{prefixes[target]}.{side}")
        counts[origin] -= 1
        counts[target] += 1

    if sum(counts.values()) < 3:
        for split in ("valid", "test"):
            while counts[split]:
                move(split, "train")
        return counts
    least = max(1, min(ENOUGH, sum(counts.values()) // 10))
    for split in ("train", "valid", "test"):
        while wanted[split] and counts[split] < least:
            move(max(counts, key=lambda name: counts[name]), split)
    return counts


def move_last_line(origin: str, target: str) -> None:
    r"""Move the last line (ending in ``\n``) of one file to the end of another, without reading the whole file."""
    with open(origin, "r+b") as stream:
        end = position = stream.seek(0, os.SEEK_END)
        tail = b""
        while position and b"\n" not in tail[:-1]:
            position = max(0, position - BLOCK_BYTES)
            stream.seek(position)
            tail = stream.read(end - position)
        line = tail[tail[:-1].rfind(b"\n") + 1 :]
        stream.truncate(end - len(line))
    with open(target, "ab") as stream:
        stream.write(line)
