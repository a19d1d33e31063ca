"""Whether a folder is one that fairseq-preprocess or preprocess/prepare.py wrote, and if not, which one was meant."""

from __future__ import annotations

import os

from fairseq import utils
from fairseq.data import data_utils

from ..errors import PyramidionError


def check_data(data: str, source: str | None, target: str | None) -> None:
    """Refuse a data folder in which fairseq would find no languages or no dictionaries.

    Args:
        data: folders with ``:`` between them, as fairseq takes them; only the first has to have dictionaries.
        source: language of the documents, None where it is to be found by the names of the files.
        target: language of the summaries, likewise.

    Raises:
        PyramidionError: says what is missing, and the folder that was meant where it can be found.
    """
    refuse_separator(data)
    folder = utils.split_paths(data)[0] if data else ""
    if "://" in folder:
        return  # not a local one
    if not os.path.isdir(folder):
        raise PyramidionError(f"there is no data folder {folder!r}: preprocess/prepare.py makes one, DIR/data-bin")
    if source is None or target is None:
        found = data_utils.infer_language_pair(folder)
        source, target = source or found[0], target or found[1]
    missing = [] if source and target else ["SPLIT.source-target.source.idx"]
    missing += [name for side in (source, target) if side for name in [f"dict.{side}.txt"] if not _is_in(folder, name)]
    if missing:
        inside = os.path.join(folder, "data-bin")
        meant = f"did you mean {inside}?" if os.path.isdir(inside) else "preprocess/prepare.py makes one, DIR/data-bin"
        raise PyramidionError(f"{folder} has no {missing[0]} and is not binarised data: {meant}")


def refuse_separator(data: str) -> None:
    """Refuse a folder whose own path has a ``:``, which fairseq reads as a list of shards.

    Args:
        data: one folder, or folders with ``:`` between them.

    Raises:
        PyramidionError: says to rename the folder.
    """
    if os.pathsep in (data or "") and os.path.isdir(data):
        raise PyramidionError(
            f"{data} has {os.pathsep!r} in its path, which fairseq reads as a list of shards: rename the folder"
        )


def _is_in(folder: str, name: str) -> bool:
    return os.path.exists(os.path.join(folder, name))
