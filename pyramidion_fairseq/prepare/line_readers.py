"""Readers of corpora with one record per line: JSON lines, such as arXiv/PubMed, and pairs of plain-text files."""

import contextlib
import itertools
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from ..text.json_records import parse_record
from ..utils.files import is_same_file
from . import streams
from .errors import BadRecord, PrepareError, Skip
from .fields import AnyFields, Fields, choose_fields, match_fields
from .record_types import Parsed, Raw

TOO_LONG = f"line of more than {streams.MAX_LINE_BYTES >> 20} MB"
PEEKED_RECORDS = 100


def decode(line: bytes) -> Tuple[str, bool]:
    """Decode a line; return the text and whether invalid UTF-8 was replaced by U+FFFD."""
    try:
        return line.decode("utf-8"), False
    except UnicodeDecodeError:
        return line.decode("utf-8", errors="replace"), True


def parse_json(text: str) -> Dict[str, Any]:
    """Parse a line as a JSON object; raise BadRecord for anything else, including deep nesting and huge numbers."""
    try:
        record = parse_record(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise BadRecord("not JSON", detail=str(error)[:100]) from None
    if not isinstance(record, dict):
        raise BadRecord(f"not a JSON object but {type(record).__name__}")
    return record


class JsonLines:
    """Reader of JSON lines: plain, gzipped or a member of a zip."""

    def __init__(self, path: str, document: Optional[str], summary: Optional[str], member: Optional[str] = None):
        self.path, self.member = path, member
        self.label = path if member is None else f"{path}:{member}"
        streams.refuse_other_files(path, member)
        self.fields: AnyFields = self._find_fields(document, summary)

    def _find_fields(self, document: Optional[str], summary: Optional[str]) -> Fields:
        names: List[str] = []
        objects = others = 0
        for raw in itertools.islice(self.records(), PEEKED_RECORDS):
            if isinstance(raw, Skip):
                continue
            try:
                record = parse_json(decode(raw.payload)[0])
            except BadRecord:
                others += 1
                continue
            objects += 1
            fields = match_fields(record, document, summary)
            if fields:
                return fields
            names += [name for name in record if name not in names]
        if others and not objects:
            raise PrepareError(
                f"{self.label}: none of its first lines is a JSON object: write one object per line (jq -c .)"
            )
        return choose_fields(names, document, summary, self.label)

    def signature(self) -> List[object]:
        return ["json", self.member, list(self.fields), *streams.signature(self.path)]

    def records(self) -> Iterator[Union[Raw, Skip]]:
        with streams.open_stream(self.path, self.member) as stream:
            for number, line in streams.bounded_lines(stream):
                if line is None:
                    yield Skip(self.label, number, TOO_LONG)
                elif not line.strip():
                    yield Skip(self.label, number, "blank line", bad=False)
                else:
                    yield Raw(self.label, number, line)

    def parse(self, raw: Raw) -> Parsed:
        text, replaced = decode(raw.payload)
        return self.fields.parse(parse_json(text))._replace(replaced=replaced)


def _refuse_json_lines(path: str) -> None:
    """Raise PrepareError if the first line of a file that is given as plain text is a JSON object."""
    with streams.open_stream(path) as stream:
        first = stream.readline(streams.MAX_LINE_BYTES)
    with contextlib.suppress(BadRecord):
        parse_json(decode(first)[0])
        raise PrepareError(f"{path} is JSON lines, not plain text: give only this file, and the names of its fields")


class TextPair:
    """Reader of a file of documents and a file of summaries; line n of one belongs to line n of the other."""

    def __init__(self, documents: str, summaries: str):
        self.documents, self.summaries = documents, summaries
        self.label = documents
        if is_same_file(documents, summaries):
            raise PrepareError(
                f"{documents} and {summaries} are the same file: each document would be its own summary"
            )
        for path in (documents, summaries):
            streams.refuse_other_files(path)
            _refuse_json_lines(path)

    def signature(self) -> List[object]:
        return ["text", *streams.signature(self.documents), *streams.signature(self.summaries)]

    def records(self) -> Iterator[Union[Raw, Skip]]:
        with streams.open_stream(self.documents) as left, streams.open_stream(self.summaries) as right:
            pairs = itertools.zip_longest(streams.bounded_lines(left), streams.bounded_lines(right))
            for number, (document, summary) in enumerate(pairs, start=1):
                if document is None or summary is None:
                    shorter, longer = self.documents, self.summaries
                    if document is not None:
                        shorter, longer = longer, shorter
                    raise PrepareError(
                        f"{shorter} has {number - 1} lines and {longer} has more: "
                        "line n of one must belong to line n of the other"
                    )
                if document[1] is None or summary[1] is None:
                    yield Skip(self.label, number, TOO_LONG)
                else:
                    yield Raw(self.label, number, (document[1], summary[1]))

    def parse(self, raw: Raw) -> Parsed:
        (document, replaced), (summary, also_replaced) = decode(raw.payload[0]), decode(raw.payload[1])
        return Parsed(document, summary, "", replaced=replaced or also_replaced)
