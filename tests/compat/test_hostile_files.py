"""Tests of the commands with invalid or hostile files: a one-line error or a count, and nothing is run or written."""

import json
import os
import pickle
import shutil
import tarfile

import pytest
import torch

from pyramidion_fairseq.cli import summarize
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import load_summarizer
from tests.helpers.preprocessing import prepare
from tests.helpers.summaries import article, write_model

QUICK = ["--device", "cpu", "--min-len", "3", "--max-len-b", "6"]
STRANGE = {
    "nul": "a\0b \0 " + article(1),
    "lone surrogates": "\ud800 half \udfff a pair \ud83d\ude00 turned \udc00\ud800 " + article(1),
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd \u202d\u0645\u0631\u062d\u0628\u0627\u200f " + article(1),
    "combining": "e" + "\u0301" * 500 + " \u200d\u200b\ufeff" + article(1),
    "line ends": "one\u2028two\u2029three\x85four\x0bfive\x0csix\rseven " + article(1),
    "controls": "\x1b[2J\x07\x08 " + article(1),
    "not characters": "\ufffe\uffff \U0010ffff \ue000 " + article(1),
    "names of symbols": "<s> </s> <pad> <unk> <mask> madeupword0000 \u2581 " + article(1),
    "blank": " \t\u3000\u200b\xad ",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(model, tmp_path):
    """Return a copy of the model's folder to damage."""
    return shutil.copytree(model, tmp_path / "model")


def refused(model, path, *options):
    """Return the one-line error of pyramidion-summarize."""
    output = path.with_name("out")
    with pytest.raises(SystemExit) as stopped:
        summarize.main(["--checkpoint", str(model), *QUICK, "--input", str(path), "--output", str(output), *options])
    line = stopped.value.code
    assert line.startswith("pyramidion-summarize: error: ") and "\n" not in line
    assert not output.exists() or not output.read_text()
    return line


def test_strange_texts_are_summarised_and_do_not_change_others(model, tmp_path):
    rows = [*STRANGE.values(), article(2)]
    (tmp_path / "in").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    chosen = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--format", "jsonl", "--sources"]
    summarize.main(["--checkpoint", str(model), *QUICK, *chosen])
    found = [json.loads(line) for line in (tmp_path / "out").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["index"] for row in found] == list(range(len(rows)))
    for name, row in zip(STRANGE, found):
        assert (row["explanation"] is None) == (name == "blank"), name
    (alone,) = load_summarizer(str(model), device="cpu").summarize([article(2)], min_len=3, max_len_b=6)
    assert found[-1]["summary"] == alone.text


def test_invalid_utf8_is_replaced_with_a_warning(model, tmp_path, capsys):
    first = b"caf\xe9 \xff\xfe \xc0\x80 \xed\xa0\x80" + b" text" * 30
    (tmp_path / "in").write_bytes(first + b"\n" + article(1).encode() + b"\n")
    summarize.main(["--checkpoint", str(model), *QUICK, "--input", str(tmp_path / "in"), "--output", "-"])
    captured = capsys.readouterr()
    assert "line 1: replaced invalid UTF-8" in captured.err and captured.out.count("\n") == 2


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def archive(path, outside):
    """Write a tar whose members have paths outside of its folder."""
    (path.parent / "member").write_text(json.dumps({"text": "x", "summary": "y"}) + "\n")
    with tarfile.open(path, "w") as tar:
        for name in (f"../../{outside.name}", str(outside)):
            tar.add(path.parent / "member", arcname=name)


def test_pickles_and_tars_instead_of_any_file_are_refused_and_run_nothing(model, folder, tmp_path):
    marker, outside = tmp_path / "marker", tmp_path / "outside"
    hostile, tar = tmp_path / "hostile", tmp_path / "corpus.tar"
    hostile.write_bytes(pickle.dumps(Touch(marker)))
    archive(tar, outside)
    assert "is not a text file" in refused(model, tar)
    refused(model, hostile, "--input-format", "jsonl")
    member = tmp_path / "member"
    assert "is not a sentencepiece model" in refused(model, member, "--sentencepiece-model", str(hostile))
    assert "no dict.source.txt" in refused(model, member, "--data", str(tmp_path))
    for name in ("dict.source.txt", "sentencepiece.model", "checkpoint_best.pt"):
        shutil.copy(hostile, folder / name)
        line = refused(folder, member)
        assert str(folder) in line
        shutil.copy(model / name, folder / name)
    for path in (tar, hostile):
        done = prepare([tmp_path / "dest", "--input", path])
        assert done.returncode == 1 and "error: cannot detect the format of" in done.stderr
    done = prepare([tmp_path / "dest", "--input", member, "--spm-model", hostile])
    assert done.returncode == 1 and "is not a sentencepiece model" in done.stderr.splitlines()[-1]
    assert not marker.exists() and not outside.exists() and not (tmp_path.parent / outside.name).exists()


@pytest.mark.parametrize("name", ["transformer_lm", "lstm", "nonsense", "roberta", ""])
def test_checkpoint_of_another_architecture_is_a_one_line_error(folder, name):
    path = folder / "checkpoint_best.pt"
    state = torch.load(path, weights_only=True)
    state["cfg"]["model"].update(_name=name, arch=name)
    torch.save(state, path)
    with pytest.raises(PyramidionError, match=r"checkpoint_best.pt cannot be loaded: .+") as error:
        load_summarizer(str(folder), device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\xff\xfe\x00garbage", "cannot be loaded"),
        (b"word\nword\n", "cannot be loaded"),
        (b"word 3\nword 3\n", "cannot be loaded"),
        (b"", "56 symbols"),
        (b"a 1\nb 1\n", "56 symbols"),
    ],
)
def test_invalid_or_foreign_dictionaries_are_one_line_errors(folder, content, message):
    for side in ("source", "target"):
        (folder / f"dict.{side}.txt").write_bytes(content)
    with pytest.raises(PyramidionError, match=message) as error:
        load_summarizer(str(folder), device="cpu")
    assert "\n" not in str(error.value)


def test_sentencepiece_model_of_another_corpus_is_warned_of(folder, caplog):
    """Check the warning if two thirds of the pieces are known, so that the model may still be the right one."""
    lines = (folder / "dict.source.txt").read_text(encoding="utf-8").splitlines()
    state = torch.load(folder / "checkpoint_best.pt", weights_only=True)
    state["cfg"]["task"]["data"] = "/nonexistent"  # otherwise the dictionary of its training would be compared
    torch.save(state, folder / "checkpoint_best.pt")
    changed = [f"\u2581other{number} 1" if number % 3 == 0 else line for number, line in enumerate(lines)]
    for side in ("source", "target"):
        (folder / f"dict.{side}.txt").write_text("\n".join(changed) + "\n", encoding="utf-8")
    load_summarizer(str(folder), device="cpu")
    assert "sentencepiece.model may be another model's: the dictionary lacks" in caplog.text
