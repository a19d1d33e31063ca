"""Tests of reading CSV strictly: a row that could be read in two ways is bad, and so is every line of it."""

import csv
import io
import logging
import random
import shutil

import pytest

from pyramidion_fairseq.prepare import csv_records
from pyramidion_fairseq.prepare.csv_records import CsvRecords
from pyramidion_fairseq.prepare.errors import PrepareError

GOOD = [f"doc {number},summary {number}" for number in range(20)]


@pytest.fixture
def records():
    """Return a function that reads the records of a text, without its header."""
    return lambda text, delimiter=",": list(CsvRecords(io.BytesIO(text.encode("utf-8")), delimiter))[1:]


@pytest.mark.parametrize(
    "row, fault, lines",
    [
        ("doc, with a comma,summary", csv_records.WIDTH, 1),
        ("doc", csv_records.WIDTH, 1),
        ("doc,summary,", csv_records.WIDTH, 1),
        (r'"he said \"yes\" twice",summary', csv_records.NOT_CSV, 1),
        (r'"he said \"yes, and no\" twice",summary', csv_records.NOT_CSV, 1),
        (r'"he said \"yes\", twice",summary', csv_records.NOT_CSV, 1),
        (r'"he said no \", summary"', csv_records.BACKSLASH, 1),
        (r'"he said \"yes\"",summary', csv_records.NOT_CSV, 1),
        ('"quoted" and not,summary', csv_records.NOT_CSV, 1),
        ('he said "yes, and no', csv_records.INSIDE, 1),
        ('tail of a field",summary', csv_records.INSIDE, 1),
        ('"quoted",a "word" in summary', csv_records.INSIDE, 1),
        ('"doc,summary\ndoc,summary\ndoc,summary\ndoc",summary', csv_records.JOINED, 4),
        ('"doc\nis "one" of,\nthree",summary', csv_records.NOT_CSV, 2),
        ("a\rb,summary\rc,summary", csv_records.NOT_CSV, 3),
    ],
)
def test_ambiguous_csv_records_are_reported_as_faulty(records, row, fault, lines):
    found = records("\n".join(["document,summary", GOOD[0], row, GOOD[1]]) + "\n")
    assert found[0][:3] == (2, 1, ["doc 0", "summary 0"]) and not found[0].fault
    assert (found[1].line, found[1].fault, found[1].lines) == (3, fault, lines)
    accepted = [record.fields for record in found[2:] if not record.fault]
    assert accepted == [["doc 1", "summary 1"]]


@pytest.mark.parametrize(
    "row, document",
    [
        ('"he said ""yes"", and no",s', 'he said "yes", and no'),
        ('"Schr\\""odinger, na\\""ive",s', 'Schr\\"odinger, na\\"ive'),
        ('he said "yes" and no,s', 'he said "yes" and no'),
        ('"two\r\nlines, one comma",s', "two\r\nlines, one comma"),
        ('"first\n\nthird, with commas, two\nlast",s', "first\n\nthird, with commas, two\nlast"),
        ('"",s', ""),
        ("back\\slash,s", "back\\slash"),
        ('"back\\slash, quoted",s', "back\\slash, quoted"),
    ],
)
def test_unambiguous_csv_records_are_accepted(records, row, document):
    for end in ("", "\n", "\r\n"):
        (record,) = records("document,summary\n" + row + end)
        assert (record.fields, record.fault) == ([document, "s"], "")


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_output_of_csv_writer_is_read_back_unchanged(records, delimiter):
    draw = random.Random(0)
    rows = [["".join(draw.choices('ab "\n,\t;é', k=draw.randrange(9))) for _ in range(3)] for _ in range(300)]
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows([["x", "y", "z"], *rows])
    found = records(stream.getvalue(), delimiter)
    assert [record.fields for record in found] == rows
    doubtful = [record.fault for record in found if record.fault]
    assert set(doubtful) <= {csv_records.JOINED} and len(doubtful) < 10  # by chance, with so many line ends


def test_every_line_joined_by_a_stray_quote_counts_as_bad(read, write, tmp_path):
    rows = list(GOOD)
    rows[11] = '"' + rows[11]
    path = write("a.csv", "\n".join(["document,summary", *rows, ""]))
    with pytest.raises(PrepareError, match=r"9 of 20 records are bad, more than --max-bad-fraction 0\.1: 9 x not csv"):
        read("--train", path)
    shutil.rmtree(tmp_path / "read")
    with pytest.raises(PrepareError, match=r"a\.csv:13: not csv, unexpected end of data \(--strict\)"):
        read("--train", path, "--strict")


def test_record_that_may_be_two_joined_rows_is_kept_with_a_warning(read, write, caplog):
    """Check that it is kept, because it may be a text of two lines with a comma in each."""
    rows = ['"one, of', 'two",summary', *GOOD, '"doc,summary', 'doc",summary']
    with caplog.at_level(logging.WARNING, "prepare"):
        _, files = read("--train", write("a.csv", "\n".join(["document,summary", *rows, ""])))
    assert "doc,summary doc" in files["train.source"] and len(files["train.source"]) == 22
    told = [message for message in caplog.messages if "stray quote" in message]
    assert len(told) == 1 and "2 records span two lines" in told[0] and "the first in line 2: check whether" in told[0]


def test_csv_rows_with_too_many_fields_are_skipped(read, write, tmp_path):
    path = write("a.csv", "\n".join(["document,summary", *GOOD, "doc, with a comma,summary", ""]))
    result, files = read("--train", path)
    assert result["skipped"] == {"not as many fields as the header": 1} and len(files["train.source"]) == 20
    shutil.rmtree(tmp_path / "read")
    with pytest.raises(PrepareError, match=r"a\.csv:22: not as many fields .*, 3 where the header has 2 \(--strict\)"):
        read("--train", path, "--strict")
