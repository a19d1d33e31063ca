"""Tests of reading documents from files of every kind, and of refusing other files with one line."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import threading
import time

import pytest

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.text import reading
from pyramidion_fairseq.text.reading import read_documents


@pytest.fixture
def read(tmp_path):
    """Return a function that writes bytes to a file and returns the texts of the documents read from it."""

    def run(content, *args, name="input", **kwargs):
        (tmp_path / name).write_bytes(content)
        return [" ".join(document.sentences) for document in read_documents(str(tmp_path / name), *args, **kwargs)]

    return run


def test_text_is_read_as_one_document_a_line_including_blank_lines(read):
    assert read(b"one\n\ntwo words\r\nthree") == ["one\n", "\n", "two words\r\n", "three"]
    assert read(b"\xef\xbb\xbfbom\n") == ["bom\n"]
    assert read(b"one\xe2\x80\xa8same line\x0bstill\n") == ["one\u2028same line\x0bstill\n"]
    assert read(b"") == []


def test_whole_file_is_read_as_one_document(read):
    assert read(b"one\n\ntwo", "document") == read(b"one\n\ntwo", whole=True) == ["one\n\ntwo"]
    assert read(b'{"text": "x"}', "document") == ['{"text": "x"}']
    assert read(b"", whole=True) == [""]


def test_json_lines_are_detected_and_read_by_field(read):
    rows = [{"article_text": ["a", "b ."]}, {"text": "plain", "id": 3}, {"article_text": []}]
    content = "\n\n".join(map(json.dumps, rows)).encode()
    for bom in (b"", b"\xef\xbb\xbf"):
        assert read(bom + content) == read(bom + content, whole=True) == ["a b .", "plain", ""]
    assert read(b'{"body": "x", "text": "y"}', "jsonl", "body") == ["x"]
    assert read(b'{"text": "x"}\n', "text") == ['{"text": "x"}\n']


def test_gzip_is_read_and_damaged_gzip_is_refused(read):
    assert read(gzip.compress(b"one\ntwo")) == ["one\n", "two"]
    with pytest.raises(PyramidionError, match="is damaged"):
        read(gzip.compress(b"one\ntwo" * 1000)[:-9])
    with pytest.raises(PyramidionError, match="is damaged"):
        read(b"\x1f\x8bnonsense")


def test_gzip_files_are_closed(tmp_path):
    (tmp_path / "input").write_bytes(gzip.compress(b"one\n"))
    before = len(os.listdir("/proc/self/fd"))
    kept = []
    for _ in range(3):
        stream = reading._open(str(tmp_path / "input"))
        kept.append(stream)  # not freed, which would close it
        assert stream.read() == b"one\n"
        stream.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_dash_reads_standard_input(monkeypatch):
    stdin = type("Stdin", (), {"buffer": io.BufferedReader(io.BytesIO(b"one\ntwo\n"))})
    monkeypatch.setattr("sys.stdin", stdin)
    assert [document.sentences for document in read_documents("-")] == [("one\n",), ("two\n",)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_format_is_judged_by_the_start_of_a_file_however_long_its_first_line_is(read, pack):
    rows = [{"text": "one"}, {"text": "two"}]
    content = b"\n" * 20_000 + "\n".join(map(json.dumps, rows)).encode()
    assert read(pack(content)) == ["one", "two"]
    with pytest.raises(PyramidionError, match="is not a text file"):
        read(pack(b"text " * 2_000 + bytes(50_000)))
    long = b"word " * 100_000
    assert read(pack(long + b"\n" + long)) == [long.decode() + "\n", long.decode()]


@contextlib.contextmanager
def _pipe(monkeypatch):
    """Make standard input a pipe; yield the unbuffered stream that writes to it."""
    reader, writer = os.pipe()
    with open(reader, "rb", closefd=False) as buffer, open(writer, "wb", 0) as stream:
        monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": buffer}))
        yield stream
    os.close(reader)


@pytest.mark.parametrize("pack, first", [(bytes, 1), (gzip.compress, 2)])
def test_the_format_of_a_pipe_is_judged_by_its_first_line_that_is_not_blank(monkeypatch, pack, first):
    content = pack(b'\n \n{"text": "one"}\n' + b'{"text": "two"}')
    pieces = [content[:first], *(bytes([byte]) for byte in content[first:])]
    with _pipe(monkeypatch) as stream:

        def write_slowly():
            for piece in pieces:
                stream.write(piece)
                time.sleep(0.001)
            stream.close()

        writer = threading.Thread(target=write_slowly)
        writer.start()
        assert next(read_documents("-")).sentences == ("one",)
        writer.join()


def test_a_line_of_a_pipe_is_read_before_the_next_one_is_written(monkeypatch):
    with _pipe(monkeypatch) as stream:
        stream.write(b"one\n")
        documents = read_documents("-")
        assert next(documents).sentences == ("one\n",)
        stream.write(b"two\n")
        assert next(documents).sentences == ("two\n",)


def test_invalid_utf8_is_replaced_with_a_warning(read, caplog):
    assert read(b"caf\xe9 and text\nfine\n") == ["caf\ufffd and text\n", "fine\n"]
    assert "line 1: replaced invalid UTF-8" in caplog.text and "line 2" not in caplog.text


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10, "is not a text file"),
        (b"%PDF-1.7 looks like text for a while", "is not a text file"),
        (b"PK\x03\x04 text text text text text text text text text", "is not a text file"),
        (b"\x7fELF" + bytes(100), "is not a text file"),
        ("some text".encode("utf-16"), "is UTF-16"),
        (bz2.compress(b"some text"), "is not a text file"),
        (lzma.compress(b"some text"), "is not a text file"),
        (
            b"\x28\xb5\x2f\xfd with text that is not compressed and so looks like text for a while",
            "is not a text file",
        ),
        (b"PAR1 with text that is not compressed and so looks like text for a while", "is not a text file"),
    ],
)
def test_binary_and_utf16_files_are_refused(read, content, message):
    with pytest.raises(PyramidionError, match=message):
        read(content)


def test_files_in_another_encoding_are_refused(read):
    """Check texts in Cyrillic; one in French, of which nine in ten characters are ASCII, is read with a warning."""
    russian = "Мы изучали действие препарата на больных."
    assert read(russian.encode()) == [russian]
    for encoding in ("cp1251", "koi8-r"):
        with pytest.raises(PyramidionError, match="input is not UTF-8 text: convert it first"):
            read(russian.encode(encoding))
    reading.check_is_text(russian.encode()[:1], "a pipe that has one byte")
    french = "La sant\u00e9 de chaque malade est suivie par un m\u00e9decin de l'h\u00f4pital. " * 10
    assert read(french.encode("latin-1")) == ["".join(c if c.isascii() else "\ufffd" for c in french)]


def test_reading_line_by_line_is_logged_unless_it_was_asked_for(read, caplog):
    caplog.set_level("INFO", "pyramidion_fairseq")
    hint = "each line is a document; --input-format document reads the file as one"
    for content, kind, whole, count in [
        (b"one\ntwo\n", "auto", False, 1),
        (b"one\ntwo\n", "text", False, 0),
        (b"one\ntwo\n", "auto", True, 0),
        (b"one\n", "auto", False, 0),
        (b'{"text": "one"}\n{"text": "two"}\n', "auto", False, 0),
    ]:
        caplog.clear()
        read(content, kind, whole=whole)
        assert caplog.text.count(hint) == count


@pytest.mark.parametrize("kind", ["auto", "text", "document"])
@pytest.mark.parametrize("whole", [False, True])
def test_field_is_refused_for_plain_text(read, kind, whole):
    with pytest.raises(PyramidionError, match=r"--field requires JSON lines, but .*input is read as plain text"):
        read(b"one\ntwo\n", kind, "body", whole=whole)
    assert read(b"", "auto", "body") == [] and read(b'\n{"body": "one"}', "auto", "body", whole=whole) == ["one"]


ARRAY = json.dumps([{"article": "first"}, {"article": "second"}], indent=1).encode()


@pytest.mark.parametrize("kind", ["auto", "jsonl"])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        ARRAY,
        b"\xef\xbb\xbf\n " + ARRAY,
        b'["one", "two"]',
        b"[]",
        b'[["a", "b"], ["c", "d"]]',
        gzip.compress(ARRAY, mtime=0),
    ],
)
def test_json_arrays_are_refused(read, content, kind, whole):
    with pytest.raises(PyramidionError, match=r"input is one JSON array: write one object per line .*jq -c '\.\[\]'"):
        read(content, kind, whole=whole)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "name, content, field",
    [
        ("input", b"document,summary\na b,c\n", None),
        ("input", b'"id", "article"\r\n1,"two\nlines"\r\n', None),
        ("input", b"text\tid\na\t1\n", None),
        ("input", b"body;tldr\na;b\n", "body"),
        ("input", b"Document,Summary\na b,c\n", None),
        ("input", b"Body;tldr\na;b\n", "body"),
        ("input", b"\n\ndocument,summary\na b,c\n", None),
        ("all.CSV", b"first document, with a comma\n", None),
        ("all.tsv.gz", gzip.compress(b"a\tb\n", mtime=0), None),
    ],
)
def test_csv_and_tsv_tables_are_refused(read, name, content, field, whole):
    with pytest.raises(
        PyramidionError, match=f"{name} is a table .*: write each row as a JSON object on its own line"
    ):
        read(content, field=field, name=name, whole=whole)


@pytest.mark.parametrize(
    "text",
    [
        "[1] A document that starts with a reference",
        "[[File:wiki.png]] text",
        "text, speech and images are used",
        "[ a",
    ],
)
def test_text_that_starts_like_an_array_or_a_table_is_read(read, text):
    assert read(text.encode()) == [text]


def test_arrays_and_tables_are_read_if_the_kind_is_text(read):
    assert read(b"document,summary\na,b\n", "text", name="a.csv") == ["document,summary\n", "a,b\n"]
    assert len(read(ARRAY, "text")) == 8 and read(ARRAY, "document") == [ARRAY.decode()]


def test_files_with_cr_line_ends_are_refused(read):
    for kind, content in (("text", b"one\rtwo\rthree\r"), ("jsonl", b'{"text": "x"}\r{"text": "y"}\r')):
        with pytest.raises(PyramidionError, match=r"input: its lines end in CR alone: .*tr '\\r' '\\n'"):
            read(content, kind)
    for content in (b"one\rtwo\rthree\n", b"one\rtwo\nthree\rfour\r", b"one\rtwo\r\n"):  # some lines end in LF
        with pytest.raises(PyramidionError, match="input: its lines end in CR alone"):
            read(content, "text")
    assert read(b"one\rtwo", "document") == ["one\rtwo"]
    assert len(read(b"one\rtwo\nthree\nfour\n", "text")) == 3 and len(read(b"one\r\ntwo\r\n", "text")) == 2


@pytest.mark.parametrize(
    "line, message",
    [
        (b"nonsense", "input, line 2 is not JSON"),
        (b"[1]", "input, line 2: not a JSON object but list"),
        (
            b'{"body": "x"}',
            "line 2: no field article_text .*; it has: 'body'; give the name of the text field with --field",
        ),
        (b'{"text": null}', "line 2: field text is null"),
        (b'{"article": null, "body": "x"}', "line 2: field article is null"),
        (b'{"text": "x", "text": "y"}', "line 2: field text occurs more than once"),
        (b'{"text ": "x"}', "line 2: no field article_text .*; it has: 'text '; give the name"),
        (b'{"text": 3}', "line 2: field text is neither"),
        (b"[" * 100_000, "line 2 is not JSON"),
        (b'{"text": ' + b"9" * 10_000 + b"}", "input, line 2 has an integer with more digits"),
        (b'{"\\ud800\\n": 1}', "line 2: no field"),
    ],
)
def test_bad_json_record_is_refused_after_the_good_ones_before_it(read, tmp_path, line, message):
    with pytest.raises(PyramidionError, match=message) as error:
        read(b'{"text": "good"}\n' + line + b"\n")
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    stream = read_documents(str(tmp_path / "input"))
    assert next(stream).sentences == ("good",)


def test_lines_and_files_above_the_size_limit_are_refused(read, monkeypatch):
    monkeypatch.setattr(reading, "MOST_BYTES", 10)
    with pytest.raises(PyramidionError, match="line 2 is longer than 0 MB"):
        read(b"short\n" + b"x" * 11)
    with pytest.raises(PyramidionError, match="is larger than 0 MB"):
        read(b"x" * 11, "document")


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(PyramidionError, match=r"cannot read .*: No such file"):
        list(read_documents(str(tmp_path / "missing")))
    with pytest.raises(PyramidionError, match=r"cannot read .*: Is a directory"):
        list(read_documents(str(tmp_path)))
