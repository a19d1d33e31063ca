"""Labels instead of summaries: classes or numbers, for fairseq's task ``sentence_prediction``."""

import argparse
import collections
import enum
import math
import os
from typing import Dict, List, Tuple

from ..class_labels import SPACE
from .cleaning import clean
from .dictionary_lines import FAIRSEQ_SPECIALS
from .errors import BadRecord, PrepareError

MASK = "<mask>"  # the task adds it to the dictionary of labels
SHOWN = 20


class Labels(enum.Enum):
    """Kind of target of a corpus: summaries, classes or numbers."""

    NONE = "summary"
    CLASSES = "label"
    NUMBERS = "number"


def labels_of(args: argparse.Namespace) -> Labels:
    """Return the kind of labels that the options request."""
    if args.labels is None:
        return Labels.NONE
    return Labels.NUMBERS if args.regression else Labels.CLASSES


def sides(args: argparse.Namespace) -> Tuple[str, ...]:
    """Return the sides (files) of a split: documents, summaries or labels, and the second texts of pairs."""
    return ("source", "target", "second") if args.second_field else ("source", "target")


def text_sides(args: argparse.Namespace) -> Tuple[str, ...]:
    """Return the sides that contain text to encode."""
    return tuple(side for side in sides(args) if side != "target" or args.labels is None)


def clean_label(text: str, labels: Labels) -> str:
    """Return a label as one word, "" if it is empty; raise BadRecord if it is invalid."""
    text = clean(text)
    if labels is Labels.CLASSES:
        name = text.replace(" ", SPACE)
        if name in (*FAIRSEQ_SPECIALS, MASK):
            raise BadRecord("label that fairseq reads as a special symbol", detail=name)
        return name
    try:
        value = float(text)
    except ValueError:
        raise BadRecord("label that is not a number" if text else "empty number", detail=text[:50]) from None
    if not math.isfinite(value):
        raise BadRecord("label that is not finite", detail=text[:50])
    return repr(value)


def count_labels(text: str, splits: List[str]) -> Dict[str, int]:
    """Return the number of training documents of each class, sorted by class name.

    Args:
        text: folder with ``SPLIT.target``
        splits: the existing splits, including train

    Raises:
        PrepareError: there is only one class, or another split has a class that the training split does not have.
    """
    found = {split: collections.Counter(_lines(os.path.join(text, f"{split}.target"))) for split in splits}
    train = found["train"]
    for split in splits:
        unseen = sorted(set(found[split]) - set(train))
        if unseen:
            names = ", ".join(unseen[:5]).replace(SPACE, " ")
            names += f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
            count = sum(found[split][name] for name in unseen)
            raise PrepareError(
                f"{count} documents of {split} have labels that no training document has ({names}): "
                "remove these documents, or split the corpus with another --seed"
            )
    if len(train) < 2:
        raise PrepareError(f"all training documents have the same label, {next(iter(train))}: at least two are needed")
    return {name: train[name] for name in sorted(train)}


def described(counts: Dict[str, int]) -> str:
    """Return a line with the most common classes and their numbers of training documents."""
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name.replace(SPACE, ' ')} {count}" for name, count in common[:SHOWN])
    return f"{len(counts)} classes: {shown}" + (", ..." if len(common) > SHOWN else "")


def _lines(path: str) -> List[str]:
    with open(path, encoding="utf-8", newline="\n") as stream:
        return [line.rstrip("\n") for line in stream]
