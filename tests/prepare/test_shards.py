"""Tests of --shard and --join: joined shards equal, byte for byte, what one machine makes."""

import json
import re
import shutil

import pytest

from tests.helpers.interruptions import snapshot
from tests.helpers.training import TASK, USER_DIR

VOCABULARY = ["--vocab-size", 60, "--workers", 1]
#: Records of a corpus. Two are bad; every second one has an id, by which it is split.
RECORDS = [
    {"article_id": f"id-{n}" if n % 2 else "", "document": f"the dog number {n} " * (1 + n % 4), "summary": f"dog {n}"}
    for n in range(60)
]
RECORDS[7] = RECORDS[20] = {"document": "", "summary": "nothing"}


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    paths = [folder / "a.jsonl", folder / "b.jsonl"]
    for path, rows in zip(paths, (RECORDS[:43], RECORDS[43:])):
        path.write_text(lines(rows), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def model(corpora, prepare_command):
    dest = corpora[0].parent / "vocabulary"
    done = prepare_command(dest, "--input", *corpora, *VOCABULARY)
    assert done.returncode == 0, done.stderr
    return dest / "sentencepiece.model"


@pytest.fixture(scope="module")
def shards(corpora, model, prepare_command):
    folders = [corpora[0].parent / f"part{number}" for number in (1, 2, 3)]
    for number, folder in enumerate(folders, start=1):
        words = ["--input", *corpora, "--spm-model", model, "--workers", 1, "--shard", f"{number}/3"]
        done = prepare_command(folder, *words)
        assert done.returncode == 0, done.stderr
    return folders


def test_joined_shards_equal_the_output_of_one_machine(corpora, model, shards, prepare_command, tmp_path):
    """Compare the splits by hash, the skipped records, the pieces, data-bin and the table of lengths."""
    one = prepare_command(tmp_path / "one", "--input", *corpora, "--spm-model", model, "--workers", 1)
    joined = prepare_command(tmp_path / "joined", "--join", *reversed(shards), "--workers", 1)
    assert (one.returncode, joined.returncode) == (0, 0), joined.stderr
    expected, found = snapshot(tmp_path / "one"), snapshot(tmp_path / "joined")
    expected.pop("report.json"), found.pop("report.json")  # reports name the options
    assert "data-bin/train.source-target.source.bin" in expected and expected["skipped.jsonl"].count(b"\n") == 2
    assert len(expected["text/valid.source"].splitlines()) == len(expected["text/test.source"].splitlines()) == 5
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    parts = [snapshot(folder) for folder in shards]
    assert all(0 < len(part["text/train.source"]) < len(expected["text/train.source"]) / 2 for part in parts)
    again = prepare_command(tmp_path / "joined", "--join", *shards, "--workers", 1)
    assert "join: kept" in again.stderr and "binarise: kept" in again.stderr


def test_joined_shards_of_given_splits_equal_the_output_of_one_machine(model, prepare_command, write, tmp_path):
    """Check it with a shard that has no document of one split."""
    splits = [f"--{name}={write(f'{name}.jsonl', lines(RECORDS[a:b]))}" for name, a, b in CUTS]
    words = [*splits, "--spm-model", model, "--workers", 1]
    folders = [tmp_path / f"part{number}" for number in (1, 2)]
    for number, folder in enumerate(folders, start=1):
        assert prepare_command(folder, *words, "--shard", f"{number}/2").returncode == 0
    assert not (folders[1] / "text" / "test.source").exists()
    assert prepare_command(tmp_path / "one", *words).returncode == 0
    assert prepare_command(tmp_path / "joined", "--join", *folders, "--workers", 1).returncode == 0
    expected, found = snapshot(tmp_path / "one"), snapshot(tmp_path / "joined")
    assert [name for name in expected if name != "report.json" and found[name] != expected[name]] == []


def test_fairseq_train_reads_shards_that_are_not_joined(shards, command, tmp_path):
    """Check that each epoch reads one shard, and that validation reads the first."""
    data = ":".join(str(folder / "data-bin") for folder in shards[:2])
    sizes = [word for name in ("encoder", "decoder") for word in (f"--{name}-embed-dim", 8, f"--{name}-layers", 1)]
    words = [data, *TASK, *USER_DIR, "--arch", "blockwise_2k", *sizes, "--cpu", "--optimizer", "adam", "--lr", "0.003"]
    words += ["--encoder-ffn-embed-dim", 8, "--decoder-ffn-embed-dim", 8, "--batch-size", 8, "--max-epoch", 2]
    done = command("train", *words, "--num-workers", 0, "--save-dir", tmp_path)
    documents = [len((folder / "text" / "train.source").read_text().splitlines()) for folder in shards[:2]]
    told = [int(number) for number in re.findall(r"train: 0 of (\d+) documents cut", done.stdout)]
    assert told == [*documents, documents[0]]  # the shard of a third epoch is read before the run ends
    assert "epoch 002 | valid on" in done.stdout


CUTS = (("train", 0, 7), ("valid", 8, 12), ("test", 12, 13))


@pytest.mark.parametrize(
    ("shard", "status"), [("0/0", 2), ("5/4", 2), ("0/4", 2), ("a/b", 2), ("1", 2), ("-1/2", 2), ("1/2/3", 2)]
)
def test_invalid_shard_numbers_are_refused(corpora, prepare_command, tmp_path, shard, status):
    done = prepare_command(tmp_path / "x", "--input", corpora[0], f"--shard={shard}")
    assert done.returncode == status
    assert done.stderr.splitlines()[-1].endswith(f"{shard!r} is no shard: 1/4 is the first of four, 4/4 the last one")


def test_shard_requires_a_sentencepiece_model(corpora, prepare_command, tmp_path):
    done = prepare_command(tmp_path / "x", "--input", corpora[0], "--shard", "1/2")
    assert done.returncode == 2 and "--shard requires --spm-model, the vocabulary of all shards" in done.stderr


def refused(prepare_command, tmp_path, *folders):
    done = prepare_command(tmp_path / "joined", "--join", *folders, "--workers", 1)
    assert done.returncode == 1 and not (tmp_path / "joined" / "data-bin").exists()
    return done.stderr.splitlines()[-1]


def test_join_refuses_shards_that_do_not_belong_together(corpora, model, shards, prepare_command, tmp_path):
    line = refused(prepare_command, tmp_path, shards[0], shards[2])
    assert line == "error: shards are missing: 2/3; prepare them with --shard and give all shards to --join"
    line = refused(prepare_command, tmp_path, shards[0], shards[0], shards[1], shards[2])
    assert line == f"error: {shards[0]} and {shards[0]} are the same shard: give each shard once"
    assert "is not a shard: it was made without --shard" in refused(prepare_command, tmp_path, model.parent)
    assert "was not made by prepare.py --shard" in refused(prepare_command, tmp_path, tmp_path / "nowhere")
    half = tmp_path / "half"
    words = ["--input", *corpora, "--spm-model", model, "--workers", 1]
    assert prepare_command(half, *words, "--shard", "1/2").returncode == 0
    assert "half is one of 2 shards, " in refused(prepare_command, tmp_path, half, *shards)
    shutil.rmtree(half)
    assert prepare_command(half, "--input", corpora[0], *words[3:], "--shard", "1/3").returncode == 0
    line = refused(prepare_command, tmp_path, half, *shards[1:])
    assert "are shards of different corpora, with 43 and 60 records" in line
    shutil.rmtree(half)
    assert prepare_command(half, *words, "--seed", 2, "--shard", "1/3").returncode == 0
    assert "were prepared with different --seed" in refused(prepare_command, tmp_path, half, *shards[1:])
    shutil.rmtree(half)
    swapped = ["--summary-field", "document", "--document-field", "summary"]
    assert prepare_command(half, *words, *swapped, "--shard", "1/3").returncode == 0
    line = refused(prepare_command, tmp_path, half, *shards[1:])
    assert (
        "have documents and summaries from different fields: prepare all shards with the same --document-field" in line
    )


def test_join_refuses_shards_with_different_vocabularies(corpora, shards, prepare_command, tmp_path):
    other = tmp_path / "vocabulary"
    assert prepare_command(other, "--input", *corpora, "--vocab-size", 50, "--workers", 1).returncode == 0
    words = ["--input", *corpora, "--spm-model", other / "sentencepiece.model", "--workers", 1, "--shard", "2/3"]
    assert prepare_command(tmp_path / "part2", *words).returncode == 0
    line = refused(prepare_command, tmp_path, shards[0], tmp_path / "part2", shards[2])
    assert "have different vocabularies: prepare all shards with one --spm-model" in line


def test_join_refuses_a_shard_that_was_changed(shards, prepare_command, tmp_path):
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in shards]
    (copies[1] / "text" / "train.source").write_text("other words\n")
    line = refused(prepare_command, tmp_path, *copies)
    assert "part2: stage read is not finished: run this shard's command again" in line
