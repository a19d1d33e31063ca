"""Documents out of files of every kind; what is none is one clear line."""

import bz2
import gzip
import io
import json
import lzma

import pytest

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.text import reading
from pyramidion_fairseq.text.reading import read_documents


@pytest.fixture
def read(tmp_path):
    """Factory: read(bytes, ...) is the list of the documents' texts."""

    def run(content, *args, name="input", **kwargs):
        (tmp_path / name).write_bytes(content)
        return [" ".join(document.sentences) for document in read_documents(str(tmp_path / name), *args, **kwargs)]

    return run


def test_text_is_one_document_a_line_blank_ones_too(read):
    assert read(b"one\n\ntwo words\r\nthree") == ["one\n", "\n", "two words\r\n", "three"]
    assert read(b"\xef\xbb\xbfbom\n") == ["bom\n"]
    assert read(b"one\xe2\x80\xa8same line\x0bstill\n") == ["one\u2028same line\x0bstill\n"]
    assert read(b"") == []


def test_a_whole_file(read):
    assert read(b"one\n\ntwo", "document") == read(b"one\n\ntwo", whole=True) == ["one\n\ntwo"]
    assert read(b'{"text": "x"}', "document") == ['{"text": "x"}']
    assert read(b"", whole=True) == [""]


def test_json_lines_are_recognised(read):
    rows = [{"article_text": ["a", "b ."]}, {"text": "plain", "id": 3}, {"article_text": []}]
    content = "\n\n".join(map(json.dumps, rows)).encode()
    for bom in (b"", b"\xef\xbb\xbf"):
        assert read(bom + content) == read(bom + content, whole=True) == ["a b .", "plain", ""]
    assert read(b'{"body": "x", "text": "y"}', "jsonl", "body") == ["x"]
    assert read(b'{"text": "x"}\n', "text") == ['{"text": "x"}\n']


def test_gzip(read):
    assert read(gzip.compress(b"one\ntwo")) == ["one\n", "two"]
    with pytest.raises(PyramidionError, match="is damaged"):
        read(gzip.compress(b"one\ntwo" * 1000)[:-9])
    with pytest.raises(PyramidionError, match="is damaged"):
        read(b"\x1f\x8bnonsense")


def test_standard_input(monkeypatch):
    stdin = type("Stdin", (), {"buffer": io.BufferedReader(io.BytesIO(b"one\ntwo\n"))})
    monkeypatch.setattr("sys.stdin", stdin)
    assert [document.sentences for document in read_documents("-")] == [("one\n",), ("two\n",)]


def test_invalid_utf8_is_replaced_and_said(read, caplog):
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
def test_what_is_no_text(read, content, message):
    with pytest.raises(PyramidionError, match=message):
        read(content)


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
def test_json_arrays_are_no_lines_of_text(read, content, kind, whole):
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
def test_tables_are_no_lines_of_text(read, name, content, field, whole):
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
def test_text_that_starts_like_them_is_text(read, text):
    assert read(text.encode()) == [text]


def test_arrays_and_tables_are_read_as_text_where_it_is_said(read):
    assert read(b"document,summary\na,b\n", "text", name="a.csv") == ["document,summary\n", "a,b\n"]
    assert len(read(ARRAY, "text")) == 8 and read(ARRAY, "document") == [ARRAY.decode()]


def test_line_ends_of_cr_alone_are_not_one_document(read):
    for kind, content in (("text", b"one\rtwo\rthree\r"), ("jsonl", b'{"text": "x"}\r{"text": "y"}\r')):
        with pytest.raises(PyramidionError, match=r"input: its lines end in CR alone: .*tr '\\r' '\\n'"):
            read(content, kind)
    for content in (b"one\rtwo\rthree\n", b"one\rtwo\nthree\rfour\r", b"one\rtwo\r\n"):  # an LF does not help
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
        (b'{"text": ' + b"9" * 10_000 + b"}", "line 2"),
        (b'{"\\ud800\\n": 1}', "line 2: no field"),
    ],
)
def test_bad_records_are_named_after_those_before(read, tmp_path, line, message):
    with pytest.raises(PyramidionError, match=message) as error:
        read(b'{"text": "good"}\n' + line + b"\n")
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    stream = read_documents(str(tmp_path / "input"))
    assert next(stream).sentences == ("good",)


def test_too_long(read, monkeypatch):
    monkeypatch.setattr(reading, "MOST_BYTES", 10)
    with pytest.raises(PyramidionError, match="line 2 is longer than 0 MB"):
        read(b"short\n" + b"x" * 11)
    with pytest.raises(PyramidionError, match="is larger than 0 MB"):
        read(b"x" * 11, "document")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(PyramidionError, match=r"cannot read .*: No such file"):
        list(read_documents(str(tmp_path / "missing")))
    with pytest.raises(PyramidionError, match=r"cannot read .*: Is a directory"):
        list(read_documents(str(tmp_path)))
