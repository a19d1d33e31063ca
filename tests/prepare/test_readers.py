"""Tests that each kind of corpus gives the same documents."""

import bz2
import gzip
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from pyramidion_fairseq.prepare.errors import PrepareError
from pyramidion_fairseq.prepare.hub_reader import hub_splits
from tests.helpers.preprocessing import LIGHT

DOCUMENTS, SUMMARIES = ["first text", "second, text", 'third "text"'], ["one", "two", "three"]
ROWS = list(zip(DOCUMENTS, SUMMARIES))


def lines(name_of_document, name_of_summary, wrap=str):
    return "".join(json.dumps({name_of_document: wrap(d), name_of_summary: wrap(s)}) + "\n" for d, s in ROWS)


def csv_text(delimiter=","):
    quoted = ['"{}"{}"{}"\n'.format(d.replace('"', '""'), delimiter, s) for d, s in ROWS]
    return f"document{delimiter}summary\n" + "".join(quoted)


def parquet(path, rows=ROWS, wrap=str):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"article": [wrap(d) for d, _ in rows], "abstract": [wrap(s) for _, s in rows]})
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    return str(path)


def assert_rows(result, files, split="train"):
    assert files[f"{split}.source"] == DOCUMENTS
    assert files[f"{split}.target"] == SUMMARIES
    assert result["documents"] == {split: 3}
    assert result["skipped"] == {}


@pytest.mark.parametrize(
    "fields",
    [("article_text", "abstract_text"), ("article", "abstract"), ("document", "summary"), ("text", "summary")],
)
def test_json_lines_fields_are_found_by_their_default_names(read, write, fields):
    assert_rows(*read("--train", write("a.jsonl", lines(*fields))))


def test_json_lines_may_have_named_fields_lists_gzip_and_a_byte_order_mark(read, write):
    text = "\ufeff" + lines("body", "tldr", wrap=str.split)
    path = write("a", gzip.compress(text.encode("utf-8")))
    assert_rows(*read("--train", path, "--document-field", "body", "--summary-field", "tldr"))


@pytest.mark.paper("datasets")
def test_arxiv_sentences_are_joined_and_their_tags_removed(read, write):
    record = {"article_text": ["one .", "two ."], "abstract_text": ["<S> a . </S>", "<S> b . </S>"]}
    plain = {"article_text": "one . two .", "abstract_text": "a . b ."}
    path = write("a.txt", json.dumps(record) + "\n" + json.dumps(plain) + "\n")
    _, files = read("--train", path, "--format", "arxiv")
    assert files["train.source"] == ["one . two ."] * 2
    assert files["train.target"] == ["a . b ."] * 2


def test_csv_is_read(read, write):
    assert_rows(*read("--train", write("a.csv", csv_text())))


def test_gzipped_tsv_is_read(read, write):
    assert_rows(*read("--train", write("a.tsv.gz", gzip.compress(csv_text("\t").encode()))))


def test_bad_csv_records_are_listed_with_their_line_numbers(read, write, monkeypatch):
    from pyramidion_fairseq.prepare import streams

    monkeypatch.setattr(streams, "MAX_LINE_BYTES", 100)
    open_quote = '"' + "y" * 60 + "\n" + "y" * 60 + '",s'
    rows = ['"two\nlines",s2', "", "x" * 500 + ",s", "nul\0here,s3", "alone", open_quote]
    path = write("a.csv", "document,summary\nd1,s1\n" + "\n".join(rows) + "\nd4,s4\n")
    result, files = read("--train", path, "--max-bad-fraction", "1")
    assert files["train.source"] == ["d1", "two lines", "nulhere", "d4"]
    assert files["train.target"] == ["s1", "s2", "s3", "s4"]
    skipped = [json.loads(line) for line in files["skipped.jsonl"]]
    assert [(skip["line"], skip["reason"]) for skip in skipped] == [
        (5, "blank line"),
        (6, "line of more than 64 MB"),
        (8, "not as many fields as the header"),
        (9, "not csv"),
        (10, "not csv"),
    ]
    assert result["bad"] == 4


@pytest.mark.parametrize("wrap", [str, str.split])
def test_parquet_columns_of_text_or_lists_are_read(read, tmp_path, wrap):
    assert_rows(*read("--train", parquet(tmp_path / "a.parquet", wrap=wrap)))


def test_parquet_rows_are_numbered_across_batches(tmp_path, monkeypatch):
    from pyramidion_fairseq.prepare import table_readers

    monkeypatch.setattr(table_readers, "ROWS_AT_ONCE", 2)
    reader = table_readers.Parquet(parquet(tmp_path / "a.parquet"), None, None)
    assert [(raw.line, raw.payload["article"]) for raw in reader.records()] == list(enumerate(DOCUMENTS, start=1))


def test_pairs_of_text_files_are_read(read, write):
    documents, summaries = write("a:b.txt", "\n".join(DOCUMENTS)), write("c.txt", "\n".join(SUMMARIES) + "\n")
    assert_rows(*read("--train", documents + ":" + summaries))


@pytest.mark.parametrize(("left", "right", "count"), [("a\nb\nc\n", "x\ny\n", 2), ("a\n", "x\ny\nz\n", 1)])
def test_text_pairs_of_unequal_length_are_refused(read, write, left, right, count):
    pair = write("a.txt", left) + ":" + write("b.txt", right)
    with pytest.raises(PrepareError, match=f"has {count} lines and .* has more"):
        read("--train", pair)


def test_one_file_as_documents_and_summaries_is_refused(read, write, tmp_path):
    documents = write("a.txt", "\n".join(DOCUMENTS))
    os.link(documents, tmp_path / "b.txt")
    with pytest.raises(PrepareError, match=r"a\.txt and .*b\.txt are the same file: each document would be its own"):
        read("--train", f"{documents}:{tmp_path / 'b.txt'}")


def test_json_lines_in_a_text_pair_are_refused(read, write):
    paths = write("a.jsonl", lines("text", "summary")) + ":" + write("b.txt", "\n".join(SUMMARIES))
    with pytest.raises(PrepareError, match=r"a\.jsonl is JSON lines, not plain text: give only this file"):
        read("--train", paths)
    braces = write("c.txt", "{a set}\n{b}\n{c}\n")
    _, files = read("--train", braces + ":" + write("d.txt", "\n".join(SUMMARIES)))
    assert files["train.source"] == ["{a set}", "{b}", "{c}"]


def test_file_given_twice_to_input_is_refused(read, write, tmp_path):
    """Check it because documents without an id are split by position, and would be in training and test."""
    path = write("a.jsonl", lines("text", "summary"))
    with pytest.raises(
        PrepareError, match=r"--input has .* twice: the same documents would be in the training and test splits"
    ):
        read("--input", path, f"{tmp_path}/./a.jsonl")


def test_evaluation_file_that_is_also_training_data_gives_a_warning(read, write, caplog):
    path, other = write("a.jsonl", lines("text", "summary")), write("b.jsonl", lines("text", "summary"))
    read("--train", path, "--valid", other, "--test", path)
    told = [message for message in caplog.messages if "training data" in message]
    assert told == [f"--test {path} is also training data: its scores will be too high"]


@pytest.mark.paper("datasets")
def test_zip_of_arxiv_is_read_as_downloaded(read, tmp_path):
    path = tmp_path / "arxiv-dataset.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in ("train", "val", "test"):
            archive.writestr(f"arxiv-dataset/{member}.txt", lines("article_text", "abstract_text"))
        archive.writestr("../../escape.txt", "never written")
        archive.writestr("__MACOSX/arxiv-dataset/._train.txt", "junk")
    result, files = read("--input", path)
    assert result["documents"] == {"train": 3, "valid": 3, "test": 3}
    assert files["valid.source"] == files["test.source"] == DOCUMENTS
    assert not list(tmp_path.rglob("escape.txt"))


def test_zip_without_splits_is_refused_with_a_list_of_its_members(read, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.md", "hello")
    with pytest.raises(PrepareError, match=r"no train\.txt; it has: readme\.md"):
        read("--input", tmp_path / "x.zip")


def test_saved_huggingface_folder_is_read(read, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"article": DOCUMENTS, "abstract": SUMMARIES})
    datasets.DatasetDict({"train": rows, "validation": rows}).save_to_disk(str(tmp_path / "saved"))
    result, files = read("--huggingface", tmp_path / "saved")
    assert result["documents"] == {"train": 3, "valid": 3}
    assert files["valid.source"] == DOCUMENTS and files["valid.target"] == SUMMARIES


def test_saved_huggingface_folder_of_one_split_is_split_by_hash(read, tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": DOCUMENTS, "summary": SUMMARIES}).save_to_disk(str(tmp_path / "saved"))
    result, files = read("--huggingface", tmp_path / "saved")
    assert result["documents"] == {"train": 1, "valid": 1, "test": 1}
    assert sorted(files["train.source"] + files["valid.source"] + files["test.source"]) == sorted(DOCUMENTS)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_saved_huggingface_folder_may_have_a_format_and_other_columns(read, tmp_path, kind):
    datasets = pytest.importorskip("datasets")
    columns = {"article": [text.split() for text in DOCUMENTS], "abstract": SUMMARIES, "ids": [[[1, 2], [3]]] * 3}
    datasets.Dataset.from_dict(columns).with_format(kind).save_to_disk(str(tmp_path / "saved"))
    _, files = read("--huggingface", tmp_path / "saved")
    assert sorted(files["train.source"] + files["valid.source"] + files["test.source"]) == sorted(DOCUMENTS)


def test_saved_huggingface_class_labels_are_read_as_names(tmp_path):
    """Check that classes, which are saved as numbers, are read as the names that a model predicts."""
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})
    rows = datasets.Dataset.from_dict({"text": DOCUMENTS, "label": [1, 0, -1]}, features=kinds)
    rows.save_to_disk(str(tmp_path / "saved"))
    train = hub_splits(str(tmp_path / "saved"), None, "text", "label")["train"]
    assert [raw.payload["label"] for raw in train.records()] == ["good", "bad", None]
    assert ("label", ["bad", "good"]) in train.signature()


def test_failed_huggingface_download_is_reported_with_the_full_name(read, monkeypatch):
    datasets = pytest.importorskip("datasets")

    def refuse(name, config, streaming):
        assert streaming
        raise ConnectionError(f"no way to\n{name}")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(PrepareError, match=r"cannot download ccdv/pubmed-summarization \(ConnectionError: no way to "):
        read("--huggingface", "pubmed")


def test_huggingface_dataset_is_streamed_by_full_name_and_config(read, monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"article": DOCUMENTS, "abstract": SUMMARIES})
    asked = []

    def load(name, config, streaming):
        asked.append((name, config, streaming))
        return datasets.IterableDatasetDict({"train": rows.to_iterable_dataset()})

    monkeypatch.setattr(datasets, "load_dataset", load)
    result, _ = read("--huggingface", "arxiv", "--huggingface-config", "section")
    assert asked == [("ccdv/arxiv-summarization", "section", True)]
    assert sum(result["documents"].values()) == 3


def test_interrupted_huggingface_stream_is_reported_with_its_row(read, monkeypatch):
    datasets = pytest.importorskip("datasets")

    def rows():
        yield {"article": "a", "abstract": "b"}
        yield {"article": "c", "abstract": "d"}
        raise TimeoutError("lost")

    stream = datasets.IterableDatasetDict({"train": datasets.IterableDataset.from_generator(rows)})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, streaming: stream)
    with pytest.raises(PrepareError, match=r"pubmed-summarization\[train\]: reading failed after row 2: .*lost"):
        read("--huggingface", "pubmed")


def test_missing_datasets_library_is_reported(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PrepareError, match="pip install datasets"):
        read("--huggingface", "arxiv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"title": "x", "year": 3}\n',
            "no fields for document/summary; it has: 'title', 'year'. Give their names",
        ),
        ("a.csv", "title,year\na,b\n", "no fields for document/summary; it has: 'title', 'year'. Give their names"),
        (
            "a.csv",
            "document, summary\na,b\n",
            "no fields for document/summary; it has: 'document', ' summary'. Give their names",
        ),
        ("a.csv", "document,id,summary,document\na,b,c,d\n", "a.csv: 2 columns are called 'document': rename all"),
        ("a.tsv", "id\tid\ttext\tsummary\na\tb\tc\td\n", "a.tsv: 2 columns are called 'id': rename all"),
        ("a.csv", 'document,"summary\na,b\n', "a.csv:1: cannot read the header: not csv unexpected end of data"),
        (
            "a.csv",
            "document,summary\ra,b\rc,d\r",
            r"a.csv: its lines end in CR alone: convert the line ends to LF .*tr '\\r'",
        ),
        ("a.jsonl", '{"text": "a", "summary": "b"}\r' * 9, "a.jsonl: its lines end in CR alone"),
        ("a.json", '[\n{"a": 1}]', "one JSON array"),
        ("a.json", '{\n"text": "a",\n"summary": "b"\n}\n', "none of its first lines is a JSON object: write one obj"),
        ("a.jsonl", "", "is empty"),
        ("a.bin", b"\x01\x02\x03", "cannot detect the format of"),
        ("a.parquet", b"PAR1 but no parquet", "is not a parquet file"),
    ],
)
def test_unreadable_files_are_refused_with_a_clear_message(read, write, name, content, message):
    with pytest.raises(PrepareError, match=message):
        read("--train", write(name, content))


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("side", ["documents", "summaries"])
def test_text_pairs_with_cr_line_ends_are_refused(read, write, side, end):
    content = {"documents": b"a\nb\n", "summaries": b"x\ny\n"}
    content[side] = content[side].replace(b"\n", b"\r") + end
    paths = ":".join(write(name, text) for name, text in content.items())
    with pytest.raises(PrepareError, match=f"{side}: its lines end in CR alone"):
        read("--train", paths, "--format", "text")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\u0105b\n\u0107d\n".encode("utf-16"), "summaries is UTF-16: save it as UTF-8"),
        (b"PK\x03\x04 and\nmore\n", "summaries is not a text file .a PDF, archive or image.*: extract its text first"),
        (bz2.compress(b"a\nb\n") + b"\n\n", "summaries is not a text file"),
    ],
)
def test_text_pairs_of_utf16_or_binary_files_are_refused(read, write, content, message):
    paths = write("documents", "a\nb\n") + ":" + write("summaries", content)
    with pytest.raises(PrepareError, match=message):
        read("--train", paths, "--format", "text")


def test_invalid_utf8_in_a_parquet_file_is_reported(read, tmp_path):
    import pyarrow
    import pyarrow.parquet

    raw = pyarrow.array([b"a", b"caf\xe9"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 2, raw.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"article": text, "abstract": ["x", "y"]}), tmp_path / "a.parquet")
    with pytest.raises(PrepareError, match=r"a\.parquet is damaged after row 0: 'utf-8' codec can't decode byte 0xe9"):
        read("--train", tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", ["auto", "jsonl", "csv"])
def test_pipe_as_input_is_refused(read, kind):
    reading, writing = os.pipe()
    os.write(writing, lines("article", "abstract").encode())
    os.close(writing)
    try:
        with pytest.raises(PrepareError, match=r"is not a regular file \(a pipe\?\) and cannot be read twice"):
            read("--input", f"/dev/fd/{reading}", "--format", kind)
    finally:
        os.close(reading)


def test_document_and_summary_fields_must_differ(read, write):
    path = write("a.jsonl", json.dumps({"article": "a", "text": "t"}) + "\n")
    with pytest.raises(PrepareError, match="no fields for text/text; it has: 'article', 'text'"):
        read("--train", path, "--document-field", "text", "--summary-field", "text")
    _, files = read("--train", path, "--summary-field", "article")
    assert files["train.source"] == ["t"] and files["train.target"] == ["a"]


def test_table_without_a_header_is_refused_with_a_short_message(read, write):
    with pytest.raises(PrepareError) as error:
        read("--train", write("a.csv", ",".join(["a long document " * 200] * 30) + "\n"))
    assert len(str(error.value)) < 800 and "'a long document a long document a long d...'" in str(error.value)
    assert "and 20 more. Give their names" in str(error.value)


def test_duplicate_parquet_columns_are_refused(read, tmp_path):
    import pyarrow
    import pyarrow.parquet

    columns = [pyarrow.array([text]) for text in ("first", "second", "s")]
    table = pyarrow.Table.from_arrays(columns, names=["article", "article", "abstract"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(PrepareError, match=r"a\.parquet: 2 columns are called 'article'"):
        read("--train", tmp_path / "a.parquet")


def test_null_fields_of_tables_are_skipped_as_null(read, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [*ROWS, ("a", None)]
    result, _ = read("--train", parquet(tmp_path / "a.parquet", rows, wrap=lambda text: text), "--max-bad-fraction", 1)
    assert result["skipped"] == {"field abstract is null": 1}
    saved = datasets.Dataset.from_dict({"article": [d for d, _ in rows], "abstract": [s for _, s in rows]})
    datasets.DatasetDict({"train": saved}).save_to_disk(str(tmp_path / "saved"))
    shutil.rmtree(tmp_path / "read")
    result, _ = read("--huggingface", tmp_path / "saved", "--max-bad-fraction", 1)
    assert result["skipped"] == {"field abstract is null": 1}


def test_prepare_pipeline_does_not_import_torch():
    code = LIGHT + "from pyramidion_fairseq.prepare import pipeline; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
