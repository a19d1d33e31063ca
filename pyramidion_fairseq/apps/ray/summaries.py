"""Summarise a collection with Ray Data: a class for ``map_batches``, with one model per worker.

    import ray
    from pyramidion_fairseq.apps.ray.summaries import Summaries

    documents = ray.data.read_parquet("articles/")  # or read_json of JSON lines
    summaries = documents.map_batches(
        Summaries, fn_constructor_kwargs={"checkpoint": "model.pt"}, batch_size=256, concurrency=8, num_gpus=1
    )
    summaries.write_parquet("summaries/")

``examples/ray/summarize.py`` does this for a folder of files and can be resumed. This module does not import Ray.
"""

from __future__ import annotations

import math
from typing import Any, Mapping

import numpy as np

from ...errors import PyramidionError, one_line
from ...pretrained import DEFAULT
from ...text import Document
from ...text.documents import ID_FIELDS
from ...text.json_records import describe, parse_record


class Summaries:
    """Summarises batches of documents. A document that fails gets an empty summary and an error message.

    Args:
        checkpoint: one checkpoint or several, as ``--checkpoint`` of pyramidion-summarize.
        field: column with the text; by default one of ``TEXT_FIELDS``, as for JSON objects.
        device: "cpu", "cuda" or "auto".
        batch_size: maximum documents per batch of the model; documents of a batch have similar lengths.
        max_tokens: maximum padded tokens per batch of the model.
        json_lines: whether the column "text" contains lines of JSON, as from ``ray.data.read_text``. Then an invalid
            line fails alone, whereas ``read_json`` refuses the whole file.
        **generation: generation options.

    Raises:
        PyramidionError: the checkpoint cannot be loaded.
    """

    def __init__(
        self,
        checkpoint: str = DEFAULT,
        field: str | None = None,
        device: str = "auto",
        batch_size: int = 8,
        max_tokens: int | None = None,
        json_lines: bool = False,
        **generation: Any,
    ):
        from ... import registered  # noqa: F401
        from ...inference.loading import load_summarizer

        self.hub = load_summarizer(checkpoint, device=device)
        self.field, self.json_lines = field, json_lines
        self.options: dict[str, Any] = {"batch_size": batch_size, "max_tokens": max_tokens, **generation}

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Summarise a batch and return a row for each document, in order.

        Args:
            batch: columns of equal length, including the text.

        Returns:
            The columns with ids (texts or integers, None for others), and ``summary`` (text), ``score`` (float64, NaN
            for missing scores), ``tokens`` (int64) and ``error`` (text, "" for success).
        """
        count = len(next(iter(batch.values()), ()))
        documents: dict[int, Document] = {}
        ids: dict[str, list[Any]] = {name: [None] * count for name in ID_FIELDS}
        errors = [""] * count
        for index in range(count):
            try:
                row = self._row({name: plain(column[index]) for name, column in batch.items()})
                for name in ID_FIELDS:
                    ids[name][index] = _identifier(row.get(name))
                documents[index] = Document.from_record(row, self.field)
            except PyramidionError as error:
                errors[index] = one_line(error)
        found = dict(zip(documents, self._summarise(list(documents.values()))))
        for index, outcome in found.items():
            if isinstance(outcome, Exception):
                errors[index] = one_line(outcome)
        good = {index: outcome for index, outcome in found.items() if not isinstance(outcome, Exception)}
        scores = [good[index].score if index in good else None for index in range(count)]
        return {
            **{name: _column(values) for name, values in ids.items() if any(value is not None for value in values)},
            "summary": np.array([good[index].text if index in good else "" for index in range(count)], dtype=object),
            "score": np.array([math.nan if score is None else score for score in scores], dtype=np.float64),
            "tokens": np.array([len(good[index].tokens) if index in good else 0 for index in range(count)], np.int64),
            "error": np.array(errors, dtype=object),
        }

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a row, or of its line of JSON; raise PyramidionError if that is not a JSON object."""
        if not self.json_lines:
            return row
        if row.get("text") is None:
            raise PyramidionError("field text is null" if "text" in row else "there is no column text")
        try:
            found = parse_record(row["text"])
        except TypeError:
            raise PyramidionError(f"not a line of JSON but {type(row['text']).__name__}") from None
        except (ValueError, RecursionError) as error:
            raise PyramidionError(describe(error).removeprefix("is ")) from None
        if not isinstance(found, dict):
            raise PyramidionError(f"not a JSON object but {type(found).__name__}")
        return found

    def _summarise(self, documents: list[Document]) -> list[Any]:
        """Return for each document its summary or an exception."""
        try:
            return self.hub.summarize(documents, **self.options)
        except (PyramidionError, RuntimeError) as error:
            if len(documents) == 1:
                return [error]
        return [outcome for document in documents for outcome in self._summarise([document])]


def _identifier(value: Any) -> str | int | None:
    """Return an id if it is text or an integer, as for :attr:`Document.article_id`, otherwise None.

    A whole float is an integer: a column of integers with a null has become one of floats.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (str, int)) else None


def _column(values: list[Any]) -> np.ndarray:
    """Return ids as a column: unchanged if all are texts or all are integers, otherwise as texts."""
    kinds = {type(value) for value in values}
    if kinds in ({str}, {int}):
        return np.array(values, dtype=object if kinds == {str} else None)
    return np.array([None if value is None else str(value) for value in values], dtype=object)


def plain(value: Any) -> Any:
    """Convert a cell of a column to a plain value: arrays to lists, NaN to None."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
