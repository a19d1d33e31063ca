"""Create documents from the text or JSON of a request."""

from __future__ import annotations

import re
from typing import Any, Iterator

from ...errors import PyramidionError
from ...text import Document, json_records
from ...text.reading import SAMPLE_BYTES, check_is_text, decode, starts_as_array, starts_as_table
from ...text.tidying import tidy
from ...text.words import find_words
from .limits import Limits, Refusal


def read_text(content: bytes, name: str) -> str:
    """Decode bytes as text; ``name`` is for messages.

    Raises:
        Refusal: the bytes are not text but, for instance, a PDF, an archive or an image.
    """
    try:
        check_is_text(content[:SAMPLE_BYTES], name)
    except PyramidionError as error:
        raise Refusal(415, "not-text", _sentence(str(error))) from None
    return decode(content, name)


def parse_documents(text: str, limits: Limits) -> list[Document]:
    """Return the documents of a text: JSON lines if the first line is a JSON object, otherwise one plain text.

    Raises:
        Refusal: there are no documents or too many, one is too long, or a line is not a document.
    """
    documents = []
    for document in _documents(text):
        documents.append(check_size(document, limits))
        if len(documents) > limits.documents:
            raise Refusal(413, "too-many", f"There are more than {limits.documents} documents: send fewer at a time.")
    if not documents:
        raise Refusal(422, "empty", "There is no document: paste some text, or choose a file that contains some.")
    return documents


def parse_record(record: Any, limits: Limits) -> Document:
    """Return the document of a JSON value; see :meth:`Document.from_record`.

    Raises:
        Refusal: the value is not a document, or it is too long.
    """
    try:
        return check_size(Document.from_record(record), limits)
    except PyramidionError as error:
        raise Refusal(422, "no-document", _sentence(str(error))) from None


def load_json(text: str) -> Any:
    """Parse JSON with :func:`~pyramidion_fairseq.text.json_records.parse_record`, which marks duplicate fields.

    Raises:
        ValueError: the text is not JSON, or is nested too deeply.
    """
    try:
        return json_records.parse_record(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check_size(document: Document, limits: Limits) -> Document:
    """Return the document if it has words, and at most ``limits.words``.

    Raises:
        Refusal: it has no words or too many.
    """
    words = sum(1 for sentence in document.sentences for _ in find_words(sentence))
    if words > limits.words:
        raise Refusal(413, "too-long", f"The document has {words:,} words, the limit is {limits.words:,}: shorten it.")
    if not any(map(tidy, document.sentences)):
        raise Refusal(422, "empty", "The document has no words.")
    return document


def _documents(text: str) -> Iterator[Document]:
    if not text.strip():
        return
    if starts_as_array(text):
        raise Refusal(422, "json-array", "This is one JSON array: send one object per line instead.")
    if starts_as_table(text):
        raise Refusal(
            422, "table", "This is a table (CSV or TSV): send each row as a JSON object on its own line instead."
        )
    # Not str.splitlines: strings in JSON may contain U+2028 and the like, but neither CR nor LF.
    lines = re.split("\r\n?|\n", text) if text.lstrip().startswith("{") else []
    if not (lines and _is_object(next(filter(str.strip, lines)))):
        whole = _parsed(text) if lines else None  # one JSON object over several lines
        yield _record(whole, 1) if isinstance(whole, dict) else Document.from_text(text)
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _record(_parsed(line), number)


def _record(value: Any, number: int) -> Document:
    if value is None:
        raise Refusal(422, "not-json", f"Line {number} is not JSON, although the first one is.")
    try:
        return Document.from_record(value)
    except PyramidionError as error:
        raise Refusal(422, "no-document", f"Line {number}: {error}.") from None


def _is_object(line: str) -> bool:
    return isinstance(_parsed(line), dict)


def _parsed(text: str) -> Any:
    try:
        return load_json(text)
    except ValueError:
        return None


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
