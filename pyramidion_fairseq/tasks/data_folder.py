"""A check that a data folder was written by fairseq-preprocess or preprocess/prepare.py."""

from __future__ import annotations

import os

from fairseq import utils
from fairseq.data import data_utils

from ..errors import PyramidionError


def check_data(data: str, source: str | None, target: str | None) -> None:
    """Refuse a data folder in which fairseq would find no languages or no dictionaries.

    Args:
        data: folders separated by ``:``, as fairseq reads them; only the first one needs dictionaries.
        source: language of the documents; None to infer it from the names of the files.
        target: language of the summaries, likewise.

    Raises:
        PyramidionError: a file is missing; the message suggests the right folder if it can be found.
    """
    refuse_separator(data)
    folder = utils.split_paths(data)[0] if data else ""
    if "://" in folder:
        return  # not a local folder
    if not os.path.isdir(folder):
        raise PyramidionError(f"there is no data folder {folder!r}: create it with preprocess/prepare.py")
    if source is None or target is None:
        found = data_utils.infer_language_pair(folder)
        source, target = source or found[0], target or found[1]
    missing = [] if source and target else ["SPLIT.source-target.source.idx"]
    missing += [name for side in (source, target) if side for name in [f"dict.{side}.txt"] if not _is_in(folder, name)]
    if missing:
        inside = os.path.join(folder, "data-bin")
        remedy = f"did you mean {inside}?" if os.path.isdir(inside) else "create it with preprocess/prepare.py"
        raise PyramidionError(f"{folder} has no {missing[0]} and is not binarised data: {remedy}")


def refuse_separator(data: str) -> None:
    """Refuse a folder whose path contains ``:``, which fairseq would read as a list of shards.

    Args:
        data: one folder, or several folders separated by ``:``.

    Raises:
        PyramidionError: the path of an existing folder contains ``:``.
    """
    if os.pathsep in (data or "") and os.path.isdir(data):
        raise PyramidionError(
            f"{data} contains {os.pathsep!r}, which fairseq reads as a separator of shards: rename the folder"
        )


def _is_in(folder: str, name: str) -> bool:
    return os.path.exists(os.path.join(folder, name))
