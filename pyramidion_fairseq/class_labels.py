"""Class names: recorded in a classifier's checkpoint, and compared with those of the data.

A classification head only knows numbers. With the labels of other data, or in another order, it would silently return
wrong names.
"""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from .errors import PyramidionError

#: Key in a checkpoint's ``extra_state``: name of the head -> its labels, one per line, ordered by class number.
KEY = "labels"
#: Replacement of spaces in the labels of the data, because fairseq splits at spaces.
SPACE = "\u2581"


def labels_of_task(task: Any) -> list[str] | None:
    """Return the labels of a task's data, ordered by class number, or None if it does not predict classes."""
    dictionary = getattr(task, "label_dictionary", None)
    if dictionary is None or getattr(task.cfg, "regression_target", False):
        return None
    return without_padding(dictionary.symbols[dictionary.nspecial :])


def without_padding(symbols: Sequence[str]) -> list[str]:
    """Return the labels of a dictionary without the task's ``<mask>`` and the padding of fairseq-preprocess."""
    kept = list(symbols)
    while kept and (kept[-1] == "<mask>" or re.fullmatch(r"madeupword\d{4}", kept[-1])):
        kept.pop()
    return kept


def for_checkpoint(labels: Sequence[str], head: str) -> dict[str, str]:
    """Return the value to store in a checkpoint under :data:`KEY`."""
    return {head: "\n".join(labels)}


def labels_of_checkpoint(extra_state: Any, head: str) -> list[str] | None:
    """Return the labels stored in a checkpoint for a head, or None."""
    found = extra_state.get(KEY) if isinstance(extra_state, Mapping) else None
    text = found.get(head) if isinstance(found, Mapping) else None
    return text.split("\n") if isinstance(text, str) else None


def check_labels(extra_state: Any, labels: Sequence[str] | None, head: str, path: str) -> None:
    """Raise an error if the labels of the data differ from those that a checkpoint's head was trained with.

    Raises:
        PyramidionError: names the first difference.
    """
    trained = labels_of_checkpoint(extra_state, head)
    if trained is None or labels is None or trained == list(labels):
        return
    number = next((i for i, (a, b) in enumerate(zip(trained, labels)) if a != b), min(len(trained), len(labels)))
    theirs, ours = (repr(names[number]) if number < len(names) else "no label" for names in (trained, labels))
    raise PyramidionError(
        f"{path} was trained with other labels than the data's: class {number} is {ours}, not {theirs}; to fine-tune "
        f"it on these give another --classification-head-name than {head}"
    )


def as_written(label: str) -> str:
    """Return a label with its original spaces."""
    return label.replace(SPACE, " ")
