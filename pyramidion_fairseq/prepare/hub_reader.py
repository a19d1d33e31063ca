"""Read data sets with the ``datasets`` library: streamed from the Hugging Face hub, or a ``save_to_disk`` folder."""

import logging
import os
from typing import Any, Dict, Iterator, List, Optional

from ..text.documents import ID_FIELDS
from . import streams
from .errors import PrepareError
from .fields import choose_fields
from .record_types import Parsed, Raw

logger = logging.getLogger("prepare")
SHORT_NAMES = {"arxiv": "ccdv/arxiv-summarization", "pubmed": "ccdv/pubmed-summarization"}
SPLIT_NAMES = {"train": "train", "test": "test", **dict.fromkeys(("validation", "valid", "val", "dev"), "valid")}


class HubSplit:
    """Reader of one split of a data set; a record's line number is its row, from 1."""

    def __init__(
        self, name: str, config: Optional[str], split: str, rows: Any, columns: List[str], fields: Any, signature: Any
    ) -> None:
        self.label = f"{name}[{split}]"
        self.rows = rows
        self.columns = columns
        self.fields = fields
        self.classes = _classes(rows)
        self._signature = ["huggingface", name, config, split, list(fields), *signature, *self.classes.items()]

    def __getstate__(self) -> Dict[str, Any]:
        return dict(self.__dict__, rows=None)  # workers only parse and do not need the data set

    def signature(self) -> List[object]:
        return self._signature

    def records(self) -> Iterator[Raw]:
        number = 0
        try:
            for number, row in enumerate(self._plain_rows(), start=1):
                named = {
                    field: _class_name(row[field], names) for field, names in self.classes.items() if field in row
                }
                yield Raw(self.label, number, {**row, **named})
        except Exception as error:  # the library raises many types for a lost connection or a damaged file
            raise PrepareError(f"{self.label}: reading failed after row {number}: {error!r:.200}") from None

    def _plain_rows(self) -> Any:
        """Return rows of plain Python values, whatever format the data set was saved with, with the needed columns."""
        rows = self.rows.with_format(None)
        wanted = [name for name in self.columns if name in (*self.fields, *ID_FIELDS)]
        return (
            rows.select_columns(wanted) if rows.column_names else rows
        )  # a streamed data set may not know its columns

    def parse(self, raw: Raw) -> Parsed:
        return self.fields.parse(raw.payload)


def hub_splits(
    name: str, config: Optional[str], document: Optional[str], summary: Optional[str]
) -> Dict[str, HubSplit]:
    """Return the readers of the data set's splits, with the keys train, valid and test.

    Raises:
        PrepareError: ``datasets`` is not installed, the folder is not a data set, the download fails, or there is no
            training split.
    """
    try:
        import datasets
    except ImportError:
        raise PrepareError("--huggingface requires the datasets library: pip install datasets") from None
    folder = os.path.isdir(name)
    name = name if folder else SHORT_NAMES.get(name, name)
    try:
        load = datasets.load_from_disk if folder else datasets.load_dataset
        loaded = load(name) if folder else load(name, config, streaming=True)
    except Exception as error:  # the libraries raise many types of errors
        what = "open the folder" if folder else "download"
        hint = "" if folder else "; without a network, use --train/--valid/--test files or a save_to_disk folder"
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise PrepareError(f"cannot {what} {name} ({reason}){hint}") from None
    if not hasattr(loaded, "keys"):
        loaded = {"train": loaded}
    signature = _folder_signature(name) if folder else []
    splits = {}
    for split, rows in loaded.items():
        if SPLIT_NAMES.get(split) is None or SPLIT_NAMES[split] in splits:
            logger.warning("ignoring split %s of %s", split, name)
            continue
        columns = _columns(rows, name)
        fields = choose_fields(columns, document, summary, f"{name}[{split}]")
        splits[SPLIT_NAMES[split]] = HubSplit(name, config, split, rows, columns, fields, signature)
    if "train" not in splits:
        raise PrepareError("{} has no split named train; it has: {}".format(name, ", ".join(loaded)))
    return splits


def _classes(rows: Any) -> Dict[str, List[str]]:
    """Return the class names of each column that contains class ids."""
    features = rows.features or {}  # a streamed data set may not know them
    return {name: list(feature.names) for name, feature in features.items() if hasattr(feature, "int2str")}


def _class_name(value: Any, names: List[str]) -> Any:
    """Return the name of a class, or None if the id is invalid, such as -1, which means no class."""
    known = isinstance(value, int) and 0 <= value < len(names)
    return names[value] if known else None


def _folder_signature(folder: str) -> List[object]:
    files = [os.path.join(top, file) for top, _, names in os.walk(folder) for file in names]
    return [streams.signature(file) for file in sorted(files)]


def _columns(rows: Any, name: str) -> List[str]:
    if rows.column_names:
        return list(rows.column_names)
    try:
        return list(next(iter(rows), {}))  # the columns of a streamed data set may only be known from its first row
    except Exception as error:  # see hub_splits
        raise PrepareError(f"cannot read {name}: {error!r:.200}") from None
