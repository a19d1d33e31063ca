"""Readers of tables: csv and parquet files."""

import logging
import os
from typing import Any, Iterator, List, Optional, Union

from . import streams
from .csv_records import CsvRecords
from .errors import PrepareError, Skip
from .fields import AnyFields, choose_fields
from .record_types import Parsed, Raw

logger = logging.getLogger("prepare")

ROWS_AT_ONCE = 64


class Csv:
    """Reader of a csv file with a header line, plain or gzipped; tab-separated if its name contains .tsv."""

    def __init__(self, path: str, document: Optional[str], summary: Optional[str]):
        self.label = self.path = path
        self.delimiter = "\t" if ".tsv" in os.path.basename(path).lower() else ","
        streams.refuse_other_files(path)
        with streams.open_stream(path) as stream:
            header = next(iter(CsvRecords(stream, self.delimiter)), None)
        if header is not None and header.fault:
            raise PrepareError(f"{path}:1: cannot read the header: {header.fault} {header.detail}".rstrip())
        self.columns = header.fields if header else []
        self.fields: AnyFields = choose_fields(self.columns, document, summary, path)

    def signature(self) -> List[object]:
        return ["csv", "strict", list(self.fields), self.delimiter, *streams.signature(self.path)]

    def records(self) -> Iterator[Union[Raw, Skip]]:
        """Yield the rows; a bad record gives one Skip for each line that it spans.

        Blank lines are skipped but not bad. Records that a stray quote may have joined cause a warning.
        """
        doubtful: List[int] = []
        with streams.open_stream(self.path) as stream:
            records = iter(CsvRecords(stream, self.delimiter))
            header = next(records).fields
            for record in records:
                if record.fault:
                    yield Skip(self.label, record.line, record.fault, detail=record.detail)
                    for number in range(1, record.lines):
                        detail = f"of the record that starts in line {record.line}"
                        yield Skip(self.label, record.line + number, record.fault, detail=detail)
                elif not record.fields:
                    yield Skip(self.label, record.line, "blank line", bad=False)
                else:
                    doubtful += [record.line] * record.doubtful
                    yield Raw(self.label, record.line, dict(zip(header, record.fields)))
        if doubtful:
            logger.warning(
                "%s: %d records span two lines that each have as many fields as the header, the first in line %d: "
                "check whether a stray quote joined two records",
                *(self.label, len(doubtful), doubtful[0]),
            )

    def parse(self, raw: Raw) -> Parsed:
        parsed = self.fields.parse(raw.payload)
        texts = parsed.document, parsed.summary, parsed.second
        return parsed._replace(replaced=any("\ufffd" in text for text in texts))


class Parquet:
    """Reader of a parquet file, a few rows at a time; a record's line number is its row, from 1."""

    def __init__(self, path: str, document: Optional[str], summary: Optional[str]):
        self.label = self.path = path
        self.columns = self._open().schema_arrow.names
        self.fields: AnyFields = choose_fields(self.columns, document, summary, path)

    def _open(self) -> Any:  # no type, as pyarrow is optional
        try:
            import pyarrow.parquet
        except ImportError:
            raise PrepareError(f"reading {self.path} requires pyarrow: pip install pyarrow") from None
        try:
            return pyarrow.parquet.ParquetFile(self.path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise PrepareError("{} is not a parquet file: {}".format(self.path, str(error).split("\n")[0])) from None

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
        except (OSError, ValueError, NotImplementedError) as error:  # ValueError: includes invalid UTF-8
            raise PrepareError(f"{self.path} is damaged after row {number}: {error}") from None
        finally:
            table.close()

    def parse(self, raw: Raw) -> Parsed:
        return self.fields.parse(raw.payload)
