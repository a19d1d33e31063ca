"""Tests of the whole prepare.py command on a tiny corpus, up to data that fairseq loads."""

import json
import os
import shlex

import pytest
import sentencepiece
from fairseq.data import Dictionary, data_utils

from tests.helpers.architectures import NARROW

SPLITS = {"train": 30, "valid": 5, "test": 1}
STRANGE = "one\u2028two\x85three\xa0four\u3000five \u2603 <pad> <dig>"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, jsonl):
    """Return the paths of three JSON-lines files; the last training document has unusual characters."""
    folder = tmp_path_factory.mktemp("corpus")
    start, paths = 0, {}
    for split, count in SPLITS.items():
        text = jsonl(range(start, start + count - (split == "train")))
        if split == "train":
            text += json.dumps({"article_text": STRANGE, "abstract_text": ["<S> " + STRANGE + " </S>"]}) + "\n"
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
        paths[split] = folder / f"{split}.jsonl"
        start += count
    return paths


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory, prepare_command):
    """Return the prepared folder, the finished process that made it and its arguments."""
    dest = tmp_path_factory.mktemp("prepared") / "dest"
    files = [word for split, path in corpus.items() for word in ("--" + split, path)]
    arguments = [dest, *files, "--vocab-size", 45, "--workers", 3, "--max-source-positions", 50]
    process = prepare_command(*arguments, fresh=True)
    assert process.returncode == 0, process.stderr
    return dest, process, arguments


def lines(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


@pytest.mark.paper("preparation")
def test_prepare_writes_exactly_the_expected_outputs(prepared):
    dest, process, _ = prepared
    names = {
        str(path.relative_to(dest)) for path in dest.rglob("*") if path.is_file() and ".prepare" not in path.parts
    }
    pairs = {f"{split}.{side}" for split in SPLITS for side in ("source", "target")}
    expected = {f"{folder}/{pair}" for folder in ("text", "encoded") for pair in pairs}
    for pair in pairs:
        split, side = pair.split(".")
        expected |= {f"data-bin/{split}.source-target.{side}.{kind}" for kind in ("bin", "idx")}
    expected |= {"data-bin/dict.source.txt", "data-bin/dict.target.txt", "data-bin/preprocess.log", "skipped.jsonl"}
    expected |= {"sentencepiece.model", "sentencepiece.vocab", "report.json", "report.txt", "report.png"}
    assert names == expected
    assert not (dest / ".prepare/work").exists()
    assert process.stdout == (dest / "report.txt").read_text()


def test_last_line_is_a_fairseq_train_command_that_runs(prepared, command, tmp_path):
    dest, process, _ = prepared
    name, *words = shlex.split(process.stderr.splitlines()[-1])
    assert name == "fairseq-train" and words[0] == f"{dest}/data-bin" and "--disable-validation" not in words
    given = dict(zip(words[1::2], words[2::2]))
    assert (given["--task"], given["--arch"]) == ("long_document_summarization", "deeppyramidion")
    assert (given["--lr"], given["--save-dir"]) == ("5e-4", "checkpoints/dest")
    documents = len((dest / "text" / "train.source").read_text(encoding="utf-8").split("\n")) - 1
    few = f"with {documents} training documents, an epoch has 1 updates of 256 documents, but the warm-up takes 5,000"
    assert few in process.stderr
    small = [*NARROW, "--max-update", 1, "--cpu", "--num-workers", 0, "--save-dir", tmp_path]
    command("train", *words, *small)
    assert (tmp_path / "checkpoint_last.pt").exists()


@pytest.mark.parametrize("name", [b"-x --y, ${HOME} {x} %s", b"#'\"\\;*?& caf\xe9\xff"], ids=str)
def test_destination_folder_may_have_any_name(corpus, tmp_path, prepare_command, name):
    """Check names with commas, interpolations, characters special to a shell and bytes that are not UTF-8."""
    dest = tmp_path / os.fsdecode(name)
    process = prepare_command(dest, "--train", corpus["train"], "--valid", corpus["valid"], "--vocab-size", 45)
    assert process.returncode == 0, process.stderr
    assert {f"{split}.source-target.source.bin" for split in ("train", "valid")} <= set(os.listdir(dest / "data-bin"))
    assert sorted(os.listdir(tmp_path)) == [dest.name]


def test_both_sides_share_one_dictionary_of_the_given_size(prepared):
    data = prepared[0] / "data-bin"
    assert (data / "dict.source.txt").read_bytes() == (data / "dict.target.txt").read_bytes()
    dictionary = Dictionary.load(str(data / "dict.source.txt"))
    assert len(dictionary) == 45
    assert len(lines(prepared[0] / "sentencepiece.vocab")) == 45


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("split", SPLITS)
def test_binarised_data_decodes_to_the_text(prepared, split, side):
    dest = prepared[0]
    dictionary = Dictionary.load(str(dest / "data-bin" / f"dict.{side}.txt"))
    prefix = str(dest / "data-bin" / f"{split}.source-target.{side}")
    dataset = data_utils.load_indexed_dataset(prefix, dictionary)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(dest / "sentencepiece.model"))
    texts, encoded = lines(dest / "text" / f"{split}.{side}"), lines(dest / "encoded" / f"{split}.{side}")
    assert len(dataset) == len(texts) == len(encoded) == SPLITS[split]
    for ids, text, pieces in zip(dataset, texts, encoded):
        assert ids[-1] == dictionary.eos()
        assert ids[:-1].tolist() == processor.encode(text)
        assert len(ids) == len(pieces.split()) + 1
        if "\u2603" not in text:
            assert processor.decode(dictionary.string(ids).split()) == text
            assert processor.decode(pieces.split()) == text


def test_unusual_whitespace_becomes_spaces_and_symbol_names_stay_text(prepared):
    dest = prepared[0]
    assert lines(dest / "text/train.source")[-1] == "one two three four five \u2603 <pad> <dig>"
    dictionary = Dictionary.load(str(dest / "data-bin/dict.source.txt"))
    dataset = data_utils.load_indexed_dataset(str(dest / "data-bin/train.source-target.source"), dictionary)
    ids = dataset[SPLITS["train"] - 1].tolist()
    assert dictionary.pad() not in ids and dictionary.bos() not in ids and ids.count(dictionary.eos()) == 1


def test_report_agrees_with_the_encoded_files(prepared):
    dest = prepared[0]
    report = json.loads((dest / "report.json").read_text())
    for split, count in SPLITS.items():
        for side, limit in (("source", 50), ("target", 1024)):
            lengths = [len(line.split()) + 1 for line in lines(dest / "encoded" / f"{split}.{side}")]
            numbers = report["splits"][split][side]
            assert numbers["documents"] == count
            assert numbers["tokens"] == sum(lengths)
            assert numbers["max"] == max(lengths)
            assert numbers["longer"] == sum(length > limit for length in lengths)
    assert report["splits"]["train"]["source"]["longer"] > 0
    assert report["vocabulary"] == 45
    assert report["arguments"]["max_source_positions"] == 50
    assert "dest" not in report["arguments"] and report["skipped"] == {}


def stages(process, word):
    return [line.split()[1].rstrip(":") for line in process.stderr.split("\n") if line.endswith(word)]


def test_second_run_keeps_all_stages_and_files(prepared, prepare_command):
    dest, first, arguments = prepared
    before = {path: path.stat().st_mtime_ns for path in dest.rglob("*.*")}
    second = prepare_command(*arguments, "--workers", "1")
    assert stages(first, "started") == ["read", "sentencepiece", "encode", "binarise", "report"]
    assert stages(second, "kept") == ["read", "sentencepiece", "encode", "binarise", "report"]
    assert second.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in dest.rglob("*.*")} == before


def test_only_stages_affected_by_a_change_run_again(prepared, prepare_command, corpus):
    _, first, arguments = prepared
    shorter = prepare_command(*arguments, "--max-source-positions", "40")
    assert stages(shorter, "started") == ["report"]
    os.utime(str(corpus["valid"]))  # a touched file is read again; the text is the same, so later stages are kept
    touched = prepare_command(*arguments)
    assert stages(touched, "started") == ["read", "report"]
    assert touched.stdout == first.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "/nowhere/a.jsonl"], "error: cannot read /nowhere/a.jsonl: No such file or directory"),
        (["--huggingface", "/nowhere/at/all/x"], "error: cannot download /nowhere/at/all/x"),
    ],
)
def test_prepare_errors_are_one_line_without_a_traceback(prepare_command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    process = prepare_command(tmp_path / "dest", *arguments)
    assert process.returncode == 1
    assert process.stderr.split("\n")[-2].startswith(message)
    assert "Traceback" not in process.stderr


def test_too_many_bad_records_stop_prepare_and_are_listed(prepare_command, tmp_path, write):
    path = write("a.jsonl", '{"text": "a", "summary": "b"}\n{\n')
    process = prepare_command(tmp_path / "dest", "--input", path)
    assert process.returncode == 1
    assert "1 of 2 records are bad" in process.stderr and "Traceback" not in process.stderr
    assert json.loads((tmp_path / "dest/skipped.jsonl").read_text())["line"] == 2
    assert not (tmp_path / "dest/text").exists() and not (tmp_path / "dest/sentencepiece.model").exists()
    process = prepare_command(tmp_path / "dest", "--input", path)  # a folder left by an earlier run is accepted
    assert "1 of 2 records are bad" in process.stderr
