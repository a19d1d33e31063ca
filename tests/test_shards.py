"""Tests that shards of a collection, summarised separately and joined, equal the output of one process."""

import json

import pytest

from pyramidion_fairseq.cli import summaries, summarize
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.utils.shards import Shard, parse_shard
from tests.helpers.summaries import article, write_model

DOCUMENTS = [article(1 + n % 5, seed=n) for n in range(7)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_model(tmp_path_factory.mktemp("folder"))
    rows = [{"article_id": f"id-{n}", "document": text} for n, text in enumerate(DOCUMENTS)]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(folder, output, *options):
    words = ["--checkpoint", folder, "--device", "cpu", "--min-len", 3, "--max-len-b", 12, "--input"]
    summarize.main(list(map(str, [*words, folder / "in.jsonl", "--output", output, *options])))
    return output


def join(*words):
    return summaries.run(summaries.build_parser().parse_args(list(map(str, words))))


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    for number in (1, 2, 3):
        run(folder, out / f"{number}.jsonl", "--format", "jsonl", "--shard", f"{number}/3")
    return out


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shards_hold_every_item_once_at_its_position(count):
    items = list("abcdefg")
    found = {}
    for number in range(1, count + 1):
        shard = Shard(number, count)
        found.update((shard.position(index), item) for index, item in enumerate(shard.of(items)))
    assert [found[index] for index in range(7)] == items and len(found) == 7


@pytest.mark.parametrize("text", ["0/0", "5/4", "0/4", "a/b", "1", "-1/2", "1/2/3", "", "١/٢"])
def test_invalid_shard_is_refused(text, capsys, tmp_path):
    with pytest.raises(PyramidionError, match="is no shard: 1/4 is the first of four"):
        parse_shard(text)
    with pytest.raises(SystemExit) as ended:
        summarize.main([f"--shard={text or ' '}", "--format", "jsonl", "--output", str(tmp_path / "x")])
    assert "is no shard: 1/4 is the first of four, 4/4 the last one" in str(ended.value)
    assert not (tmp_path / "x").exists()


def test_joined_shards_equal_the_output_of_one_process(folder, shards, tmp_path):
    one = run(folder, tmp_path / "one.txt").read_text().splitlines()
    rows = [json.loads(line) for line in (shards / "2.jsonl").read_text().splitlines()]
    assert [(row["index"], row["article_id"], row["shard"]) for row in rows] == [
        (1, "id-1", "2/3"),
        (4, "id-4", "2/3"),
    ]
    assert join(shards, "--expected", 7, "--strict", "--output", tmp_path / "joined.txt") == one
    assert (tmp_path / "joined.txt").read_text().splitlines() == one and all(one)


def test_interrupted_shard_resumes_to_the_same_output(folder, shards, tmp_path):
    whole = (shards / "1.jsonl").read_text()
    begun = tmp_path / "1.jsonl"
    begun.write_text(whole[: whole.index("\n") + 20])
    run(folder, begun, "--format", "jsonl", "--shard", "1/3", "--resume")
    assert begun.read_text() == whole


@pytest.mark.parametrize("other", ["1/6", "2/3", None])
def test_resuming_with_another_shard_is_refused(folder, shards, tmp_path, other):
    """Check also 1/6, which begins with the same document as 1/3."""
    begun = tmp_path / "1.jsonl"
    begun.write_bytes((shards / "1.jsonl").read_bytes().partition(b"\n")[0] + b'\n{"ind')
    before = begun.read_bytes()
    with pytest.raises(SystemExit, match=r"1\.jsonl.* give the same as in the first run"):
        run(folder, begun, "--format", "jsonl", "--resume", *(["--shard", other] if other else []))
    assert begun.read_bytes() == before


def test_resuming_with_summaries_of_other_documents_is_refused(folder, shards, tmp_path):
    begun = tmp_path / "1.jsonl"
    begun.write_text((shards / "1.jsonl").read_text().partition("\n")[0].replace("id-0", "id-9") + "\n")
    with pytest.raises(SystemExit, match="line 1, is of another document or --shard: give the same"):
        run(folder, begun, "--format", "jsonl", "--shard", "1/3", "--resume")


def test_shard_requires_jsonl_format_and_documents(folder, tmp_path):
    for options, message in (
        (["--shard", "1/2"], "--shard requires --format jsonl"),
        (["--shard", "8/8", "--format", "jsonl"], "shard 8/8 of .* has no documents: use fewer shards"),
    ):
        with pytest.raises(SystemExit, match=message):
            run(folder, tmp_path / "out", *options)


def test_join_refuses_missing_shards_shards_of_other_runs_and_other_rows(shards, tmp_path):
    with pytest.raises(PyramidionError, match="shards are missing: 2/3: give the files of all 3"):
        join(shards / "1.jsonl", shards / "3.jsonl", "--output", "-")
    other = tmp_path / "other.jsonl"
    other.write_text('{"index": 50, "shard": "1/2", "summary": "x"}\n')
    with pytest.raises(
        PyramidionError, match=r"the files belong to runs with different numbers of shards: .*other\.jsonl"
    ):
        join(shards, other, "--output", "-")
    other.write_text('{"index": 0, "shard": "2/3", "summary": "another"}\n')
    with pytest.raises(PyramidionError, match="document 0 has different summaries in"):
        join(shards, other, "--output", "-")
    for text in ('{"index": -1, "summary": "x"}\n', '{"summary": "x"}\n', '{"index": 0, "summary": 1}\n', "{\n"):
        other.write_text(text)
        with pytest.raises(PyramidionError, match="line 1: not a row of pyramidion-summarize --format jsonl"):
            join(other, "--output", "-")
