"""Symbols that documents and summaries have for their language."""

from __future__ import annotations

from typing import Any, NamedTuple

from fairseq.data import Dictionary

from .errors import PyramidionError


class Markers(NamedTuple):
    """Ids of what is added to documents and summaries, None for nothing."""

    document: int | None = None
    """What documents start with: ``<s>``, or a language."""
    summary: int | None = None
    """What summaries start with."""
    document_end: int | None = None
    """What follows the documents' ``</s>``."""


def marker_of(dictionary: Dictionary, symbol: str, flag: str) -> int:
    """Return the id of a marker.

    Raises:
        PyramidionError: the dictionary does not have it.
    """
    if symbol not in dictionary:
        raise PyramidionError(f"{flag} {symbol}: the dictionary has no such symbol")
    return dictionary.index(symbol)


def markers_of(options: Any, dictionary: Dictionary, before: Markers) -> Markers:
    """Return what our task adds for a model.

    Args:
        options: of the model, as of ``config.complete``; None of a model that is not ours.
        dictionary: of documents and summaries.
        before: what is kept where the model adds nothing, as one of several models of an ensemble may.

    Raises:
        PyramidionError: the dictionary lacks a marker.
    """
    flags = {"document": "--document-marker", "summary": "--summary-marker"}
    given = {side: getattr(options, f"{side}_marker", "") for side in flags}
    ids = {side: marker_of(dictionary, symbol, flags[side]) for side, symbol in given.items() if symbol}
    if getattr(options, "prepend_bos", False):
        bos = dictionary.bos()
        return before._replace(document=ids.get("document", bos), summary=ids.get("summary", bos))
    return before._replace(document_end=ids["document"]) if "document" in ids else before
