"""Names of classes: recorded in a classifier's checkpoint, and compared with those of the data.

A head knows numbers alone. With the labels of other data, in another order, it would say wrong names without a word.
"""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from .errors import PyramidionError

#: In a checkpoint's ``extra_state``: name of the head -> its labels, one a line, in the order of their numbers.
KEY = "labels"
#: What stands for a space in a label of the data: fairseq splits at spaces.
SPACE = "\u2581"


def labels_of_task(task: Any) -> list[str] | None:
    """Return the labels of a task's data in the order of their numbers; None if it predicts no classes."""
    dictionary = getattr(task, "label_dictionary", None)
    if dictionary is None or getattr(task.cfg, "regression_target", False):
        return None
    return without_padding(dictionary.symbols[dictionary.nspecial :])


def without_padding(symbols: Sequence[str]) -> list[str]:
    """Return the labels of a dictionary, without ``<mask>``, which the task adds, and fairseq-preprocess's padding."""
    kept = list(symbols)
    while kept and (kept[-1] == "<mask>" or re.fullmatch(r"madeupword\d{4}", kept[-1])):
        kept.pop()
    return kept


def for_checkpoint(labels: Sequence[str], head: str) -> dict[str, str]:
    """Return what a checkpoint is to carry under :data:`KEY`."""
    return {head: "\n".join(labels)}


def labels_of_checkpoint(extra_state: Any, head: str) -> list[str] | None:
    """Return the labels that a checkpoint carries for a head; None if it carries none."""
    found = extra_state.get(KEY) if isinstance(extra_state, Mapping) else None
    text = found.get(head) if isinstance(found, Mapping) else None
    return text.split("\n") if isinstance(text, str) else None


def check_labels(extra_state: Any, labels: Sequence[str] | None, head: str, path: str) -> None:
    """Refuse data of other labels than a checkpoint's head was trained with.

    Raises:
        PyramidionError: says what differs first.
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
    """Return a label as people wrote it."""
    return label.replace(SPACE, " ")
