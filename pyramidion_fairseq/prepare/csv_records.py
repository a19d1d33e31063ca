"""Read the records of a csv file strictly: ambiguous records are reported, not guessed."""

import csv
import re
from typing import BinaryIO, Iterator, List, NamedTuple, Tuple

from . import streams
from .line_readers import TOO_LONG, decode

WIDTH = "not as many fields as the header"
NOT_CSV = "not csv"
BACKSLASH = "a quote after a backslash: it may end the field or not"
INSIDE = "a quote inside a field that is not quoted"
JOINED = "a quote that joins lines which look like records"
FEWEST_JOINED = 3  # lines: in a text of two lines, both may have as many commas as the header by chance
_LINE_END = re.compile("\r\n|\r|\n")


class CsvRecord(NamedTuple):
    """A record of a csv file. A blank line is a record without fields.

    Attributes:
        line: the record's first line, from 1.
        lines: number of lines that the record spans.
        fields: values of the record.
        fault: reason why the record cannot be used, or "".
        detail: details of the fault.
        doubtful: whether each of its two lines looks like a record, so that a stray quote may have joined them.
    """

    line: int
    lines: int
    fields: List[str]
    fault: str = ""
    detail: str = ""
    doubtful: bool = False


class CsvRecords:
    """Iterates over the records of a csv file, starting with the header.

    Python's csv module splits the records. It is more lenient than RFC 4180, so records with quotes are checked again.

    Args:
        stream: binary stream of the file.
        delimiter: delimiter of fields.
    """

    def __init__(self, stream: BinaryIO, delimiter: str):
        self._stream, self._delimiter = stream, delimiter
        self._text: List[str] = []
        self._too_long = False
        self._width = 0
        end = re.escape(delimiter) + "\r\n"
        field = f'(?:"[^"]*(?:""[^"]*)*"|[^"{end}]*)'
        self._strict = re.compile(f"{field}(?:{re.escape(delimiter)}{field})*[\r\n]*")
        self._escaped = re.compile(rf'\\"+(?=[{end}]|$)')

    def __iter__(self) -> Iterator[CsvRecord]:
        csv.field_size_limit(streams.MAX_LINE_BYTES)
        rows = csv.reader(self._lines(), delimiter=self._delimiter, strict=True)
        line = 1
        while True:
            self._text, self._too_long = [], False
            try:
                fields, fault, detail = next(rows), "", ""
            except StopIteration:
                return
            except csv.Error as error:
                fields, fault, detail = [], NOT_CSV, str(error)
            if not fault:
                fault, detail = self._fault(fields)
            lines = max(1, sum(len(_LINE_END.findall(text)) or 1 for text in self._text))
            doubtful = not fault and len(self._text) == FEWEST_JOINED - 1 and self._all_look_whole()
            yield CsvRecord(line, lines, fields, fault, detail, doubtful)
            self._width = self._width or len(fields)
            line += len(self._text)

    def _lines(self) -> Iterator[str]:
        for number, content in streams.bounded_lines(self._stream):
            if content is None:
                self._too_long = True
                content = b"\n"
            text = decode(content)[0].replace("\0", "")  # Python's csv module refuses NUL before 3.11
            text = text.lstrip("\ufeff") if number == 1 else text
            self._text.append(text)
            yield text

    def _fault(self, fields: List[str]) -> Tuple[str, str]:
        """Return (fault, detail) of a record that the csv module accepted; ("", "") if it can be used."""
        if self._too_long:
            return TOO_LONG, ""
        text = "".join(self._text)
        if '"' in text:
            if self._escaped.search(text):
                return BACKSLASH, ""
            if not self._strict.fullmatch(text):
                unquoted = self._delimiter.join(fields) == text.rstrip("\r\n")
                if not unquoted or any(field.count('"') % 2 for field in fields):
                    return INSIDE, ""
        if self._width and fields and len(fields) != self._width:
            return WIDTH, f"{len(fields)} where the header has {self._width}"
        if len(self._text) >= FEWEST_JOINED and self._all_look_whole():
            return JOINED, f"{len(self._text)} lines"
        return "", ""

    def _all_look_whole(self) -> bool:
        return self._width > 1 and all(line.count(self._delimiter) == self._width - 1 for line in self._text)
