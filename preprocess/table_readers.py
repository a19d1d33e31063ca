"""Corpora in tables: csv files, parquet files and data sets of the ``datasets`` library."""

import csv
import os
from typing import BinaryIO, Iterator, List, Optional, Union

import streams
from fields import choose_fields
from line_readers import TOO_LONG, decode
from prepare_errors import PrepareError, Skip
from record_types import Parsed, Raw

ROWS_AT_ONCE = 64


class Csv:
    """A csv file with a header line (tab-separated where its name says .tsv), plain or gzipped."""

    def __init__(self, path: str, document: Optional[str], summary: Optional[str]):
        self.label = self.path = path
        self.delimiter = "\t" if ".tsv" in os.path.basename(path).lower() else ","
        with streams.open_stream(path) as stream:
            header = next(self._rows(stream, []), None)
        self.fields = choose_fields(header or [], document, summary, path)

    def _rows(self, stream: BinaryIO, too_long: List[int]) -> "csv._reader":
        csv.field_size_limit(streams.MAX_LINE_BYTES)

        def lines() -> Iterator[str]:
            for number, line in streams.bounded_lines(stream):
                if line is None:
                    too_long.append(number)
                    line = b"\n"  # keeps the csv module's line numbers right
                text = decode(line)[0].replace("\0", "")  # before Python 3.11 the csv module refuses NUL
                yield text.lstrip("\ufeff") if number == 1 else text

        return csv.reader(lines(), delimiter=self.delimiter)

    def signature(self) -> List[object]:
        return ["csv", list(self.fields), self.delimiter, *streams.signature(self.path)]

    def records(self) -> Iterator[Union[Raw, Skip]]:
        too_long: List[int] = []
        with streams.open_stream(self.path) as stream:
            rows = self._rows(stream, too_long)
            header = next(rows)
            while True:
                first_line = rows.line_num + 1
                try:
                    row = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Skip(self.label, first_line, "not csv", detail=str(error))
                    continue
                if too_long:
                    yield Skip(self.label, too_long[0], TOO_LONG)
                    too_long.clear()
                elif not row:
                    yield Skip(self.label, first_line, "blank line", bad=False)
                else:
                    yield Raw(self.label, first_line, dict(zip(header, row)))

    def parse(self, raw: Raw) -> Parsed:
        parsed = self.fields.values(raw.payload)
        return Parsed(*parsed, replaced="\ufffd" in parsed[0] or "\ufffd" in parsed[1])


class Parquet:
    """A parquet file, read a few rows at a time; the line number of a record is its row, from 1."""

    def __init__(self, path: str, document: Optional[str], summary: Optional[str]):
        self.label = self.path = path
        self.fields = choose_fields(self._open().schema_arrow.names, document, summary, path)

    def _open(self):  # noqa: ANN202 - pyarrow is optional, so its type cannot be named here
        try:
            import pyarrow.parquet
        except ImportError:
            raise PrepareError(f"reading {self.path} needs pyarrow: pip install pyarrow") from None
        try:
            return pyarrow.parquet.ParquetFile(self.path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise PrepareError("{} is no parquet file: {}".format(self.path, str(error).split("\n")[0])) from None

    def signature(self) -> List[object]:
        return ["parquet", list(self.fields), *streams.signature(self.path)]

    def records(self) -> Iterator[Raw]:
        number = 0
        table = self._open()
        names = [name for name in table.schema_arrow.names if name in (*self.fields, "article_id", "id")]
        try:
            for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    yield Raw(self.label, number, row)
        except OSError as error:
            raise PrepareError(f"{self.path} is damaged after row {number}: {error}") from None
        finally:
            table.close()

    def parse(self, raw: Raw) -> Parsed:
        return Parsed(*self.fields.values(raw.payload))
