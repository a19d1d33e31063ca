"""Summaries of a collection by Ray Data: a class for ``map_batches``, one model in each worker.

    import ray
    from pyramidion_fairseq.apps.ray.summaries import Summaries

    documents = ray.data.read_parquet("articles/")  # or read_json of JSON lines
    summaries = documents.map_batches(
        Summaries, fn_constructor_kwargs={"checkpoint": "model.pt"}, batch_size=256, concurrency=8, num_gpus=1
    )
    summaries.write_parquet("summaries/")

``examples/ray/summarize.py`` does so for a folder of files and goes on where it was stopped. Ray is not imported here.
"""

from __future__ import annotations

import math
from typing import Any, Mapping

import numpy as np

from ...errors import PyramidionError, one_line
from ...pretrained import DEFAULT
from ...text import Document
from ...text.documents import ID_FIELDS
from ...text.json_records import parse_record


class Summaries:
    """Summarises batches of documents; a document that fails has an empty summary and says why.

    Args:
        checkpoint: one checkpoint or several, as ``--checkpoint`` of pyramidion-summarize.
        field: column with the text; default the usual ones, as for JSON objects.
        device: "cpu", "cuda" or "auto".
        batch_size: documents in a batch of the model, which are of about the same length, at most.
        max_tokens: padded tokens in such a batch, at most.
        json_lines: whether rows are lines of JSON, in the column "text", as ``ray.data.read_text`` gives them: one
            that is no JSON fails alone, where ``read_json`` refuses the whole file.
        **generation: options of generation.

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
        """Return a row for each document, in their order.

        Args:
            batch: columns, each of as many rows: one with the text, and others.

        Returns:
            the columns with ids, and ``summary`` (text), ``score`` (float64; NaN where there is none), ``tokens``
            (int64) and ``error`` (text, "" where all went well).
        """
        count = len(next(iter(batch.values()), ()))
        documents: dict[int, Document] = {}
        ids: dict[str, list[Any]] = {name: [None] * count for name in ID_FIELDS}
        errors = [""] * count
        for index in range(count):
            try:
                row = self._row({name: plain(column[index]) for name, column in batch.items()})
                for name in ID_FIELDS:
                    ids[name][index] = row.get(name)
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
        """Return a row's columns; those of a line of JSON. PyramidionError where it is none."""
        if not self.json_lines:
            return row
        try:
            found = parse_record(row["text"])
        except (ValueError, RecursionError):
            raise PyramidionError("not JSON") from None
        if not isinstance(found, dict):
            raise PyramidionError(f"not a JSON object but {type(found).__name__}")
        return found

    def _summarise(self, documents: list[Document]) -> list[Any]:
        """Return a summary of each document, or the error in its place."""
        try:
            return self.hub.summarize(documents, **self.options)
        except (PyramidionError, RuntimeError) as error:
            if len(documents) == 1:
                return [error]
        return [outcome for document in documents for outcome in self._summarise([document])]


def _column(values: list[Any]) -> np.ndarray:
    """Return ids as a column: as they are where all are texts or all numbers, else as texts."""
    kinds = {type(value) for value in values}
    if kinds in ({str}, {int}):
        return np.array(values, dtype=object if kinds == {str} else None)
    return np.array([None if value is None else str(value) for value in values], dtype=object)


def plain(value: Any) -> Any:
    """Return a cell of a column as JSON has it: lists for arrays, None for what is missing."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
