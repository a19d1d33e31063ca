"""Language symbols and other markers of documents and summaries."""

from __future__ import annotations

from typing import Any, NamedTuple

from fairseq.data import Dictionary

from .errors import PyramidionError


class Markers(NamedTuple):
    """Ids of the symbols added to documents and summaries, None for no symbol."""

    document: int | None = None
    """Start symbol of documents: ``<s>``, or a language."""
    summary: int | None = None
    """Start symbol of summaries."""
    document_end: int | None = None
    """Symbol that follows the ``</s>`` of documents."""


def marker_of(dictionary: Dictionary, symbol: str, flag: str) -> int:
    """Return the id of a marker.

    Raises:
        PyramidionError: the marker is not in the dictionary.
    """
    if symbol not in dictionary:
        raise PyramidionError(f"{flag} {symbol}: the dictionary has no such symbol")
    return dictionary.index(symbol)


def markers_of(options: Any, dictionary: Dictionary, before: Markers) -> Markers:
    """Return the markers that the task adds for a model.

    Args:
        options: options of the model, see ``config.complete``; None for a model that is not from this package.
        dictionary: dictionary of documents and summaries.
        before: markers to keep if the model adds none, as a member of an ensemble may.

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
