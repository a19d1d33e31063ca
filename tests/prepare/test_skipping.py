"""Tests that bad records are left out, counted and listed, and that sources and targets stay aligned."""

import json

import pytest

from pyramidion_fairseq.prepare.errors import PrepareError

BAD = [
    (b"{not json", "not JSON"),
    (b'["a list"]', "not a JSON object but list"),
    (b'{"article": "x"}', "field abstract is missing"),
    (b'{"article": "x", "abstract": null}', "field abstract is null"),
    (b'{"article": "x", "abstract": "y", "article": "z"}', "field article occurs more than once"),
    (b'{"article": 3, "abstract": "y"}', "field article is neither text nor a list of texts but int"),
    (b'{"article": ["x", 3], "abstract": "y"}', "field article has int in its list"),
    (b'{"article": "", "abstract": "y"}', "empty document"),
    (b'{"article": "x", "abstract": "<S> \\u200b </S>"}', "empty summary"),
    (b'{"article": "x", "abstract": ["<S>", "</S>"]}', "empty summary"),
    (b"[" * 100000, "not JSON"),
    (b'{"article": ' + b"9" * 5000 + b', "abstract": "y"}', "not JSON"),
    (b"\xff\xfe\xfa", "not JSON"),
]


def good(number):
    return json.dumps({"article": f"document {number}", "abstract": f"summary {number}"}).encode()


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_records_are_listed_and_pairs_stay_aligned(read, write, workers):
    content = [good(0)]
    for number, (line, _) in enumerate(BAD, start=1):
        content += [line, good(number)]
    arguments = ["--max-bad-fraction", "0.5", "--workers", workers]
    result, files = read("--train", write("a.jsonl", b"\n".join(content)), *arguments)
    assert files["train.source"] == [f"document {n}" for n in range(len(BAD) + 1)]
    assert files["train.target"] == [f"summary {n}" for n in range(len(BAD) + 1)]
    skipped = [json.loads(line) for line in files["skipped.jsonl"]]
    assert [(skip["line"], skip["reason"]) for skip in skipped] == [(2 * n + 2, r) for n, (_, r) in enumerate(BAD)]
    assert all(skip["file"].endswith("a.jsonl") for skip in skipped)
    assert result["bad"] == sum(result["skipped"].values()) == len(BAD) == 13
    assert result["skipped"]["not JSON"] == 4
    assert result["skipped"]["empty summary"] == 2


def test_invalid_utf8_nul_and_surrogates_are_repaired(read, write):
    lines = [
        b'{"article": "caf\xe9 ok", "abstract": "s"}',
        b'{"article": "a\\u0000b", "abstract": "s"}',
        b'{"article": "a \\ud800 b", "abstract": "\\ud83d\\ude00"}',
    ]
    result, files = read("--train", write("a.jsonl", b"\n".join(lines)))
    assert files["train.source"] == ["caf\ufffd ok", "ab", "a \ufffd b"]
    assert files["train.target"] == ["s", "s", "\U0001f600"]
    assert (result["replaced"], result["bad"]) == (1, 0)


def test_line_above_the_size_limit_is_skipped(read, write, monkeypatch):
    from pyramidion_fairseq.prepare import streams

    monkeypatch.setattr(streams, "MAX_LINE_BYTES", 1000)
    content = b"\n".join([good(0), b'{"article": "' + b"x" * 100000, good(1)])
    result, files = read("--train", write("a.jsonl", content), "--max-bad-fraction", "0.4")
    assert files["train.source"] == ["document 0", "document 1"]
    assert [json.loads(line)["line"] for line in files["skipped.jsonl"]] == [2]
    assert result["bad"] == 1


def test_blank_lines_are_listed_but_not_counted_as_bad(read, write):
    content = b"\n\n".join([good(0), good(1)]) + b"\n\n"
    result, files = read("--train", write("a.jsonl", content), "--strict")
    assert result["skipped"] == {"blank line": 2}
    assert [json.loads(line)["line"] for line in files["skipped.jsonl"]] == [2, 4]
    assert (result["bad"], result["documents"]) == (0, {"train": 2})


@pytest.mark.parametrize(("bad", "passes"), [(1, True), (2, False)])
def test_at_most_ten_percent_of_records_may_be_bad(read, write, bad, passes):
    path = write("a.jsonl", b"\n".join([*[good(n) for n in range(9)], *[b"{"] * bad]))
    if passes:
        assert read("--train", path)[0]["bad"] == 1
    else:
        with pytest.raises(PrepareError, match=r"2 of 11 records are bad, more than --max-bad-fraction 0\.1: 2 x not"):
            read("--train", path)


def test_strict_stops_at_the_first_bad_record(read, write):
    path = write("a.jsonl", b"\n".join([good(0), good(1), b"{", b"[]"]))
    with pytest.raises(PrepareError, match=r"a\.jsonl:3: not JSON, Expecting property name.* \(--strict\)"):
        read("--train", path, "--strict")


def test_reading_stops_after_1000_records_without_a_usable_one(read, write):
    shows_the_fields = b'{"article": "", "abstract": "b"}'
    content = [shows_the_fields, *[b"{"] * 5000]
    with pytest.raises(PrepareError, match="none of the first 1000 records is usable: 999 x not JSON; 1 x empty"):
        read("--train", write("a.jsonl", b"\n".join(content)))


def test_split_without_usable_documents_is_refused(read, write):
    path, empty = write("a.jsonl", good(0)), write("b.jsonl", b'{"article": "", "abstract": ""}')
    with pytest.raises(PrepareError, match="no usable document for valid: 1 x empty document"):
        read("--train", path, "--valid", empty, "--max-bad-fraction", "1")


def test_max_documents_applies_per_split_across_files(read, write):
    paths = [write(f"{n}.jsonl", b"\n".join(good(10 * n + i) for i in range(3))) for n in range(2)]
    result, files = read("--train", *paths, "--valid", paths[1], "--max-documents", 4)
    assert result["documents"] == {"train": 4, "valid": 3}
    assert files["train.source"][-1] == "document 10"


@pytest.mark.parametrize("workers", [1, 2])
def test_records_keep_their_order_across_chunks(read, write, monkeypatch, workers):
    from pyramidion_fairseq.prepare import record_tasks

    monkeypatch.setattr(record_tasks, "CHUNK_RECORDS", 3)
    _, files = read("--train", write("a.jsonl", b"\n".join(map(good, range(200)))), "--workers", workers)
    assert files["train.source"] == [f"document {n}" for n in range(200)]
    assert files["train.target"] == [f"summary {n}" for n in range(200)]
