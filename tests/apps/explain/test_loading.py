"""Tests of loading: the files that belong to a checkpoint are found, and what is missing is a one-line error."""

import logging
import os
import shutil
import tarfile

import pytest
import torch

from pyramidion_fairseq import PyramidionModel
from pyramidion_fairseq.attention.full import FullAttention
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import load_summarizer
from tests.helpers.models import make_dictionary
from tests.helpers.summaries import article, write_checkpoint, write_sentencepiece

QUICK = {"min_len": 3, "max_len_b": 6}


@pytest.fixture
def folder(trained_folder, tmp_path):
    """Return a copy of a model's folder that tests may damage."""
    shutil.copytree(trained_folder, tmp_path / "folder")
    return tmp_path / "folder"


def test_data_of_preprocessing_is_found_from_the_checkpoint(folder, tmp_path):
    """Check dictionaries in data-bin, the sentencepiece model beside data-bin, and the checkpoint elsewhere."""
    prepared, checkpoints = tmp_path / "prepared", tmp_path / "checkpoints"
    (prepared / "data-bin").mkdir(parents=True)
    checkpoints.mkdir()
    write_sentencepiece(prepared / "data-bin")
    write_checkpoint(prepared / "data-bin", pooling_schedule="1:12,2:5")
    shutil.move(prepared / "data-bin" / "checkpoint_best.pt", checkpoints / "checkpoint_best.pt")
    shutil.move(prepared / "data-bin" / "sentencepiece.model", prepared / "sentencepiece.model")
    expected = load_summarizer(str(folder), device="cpu").summarize(article(3), **QUICK)
    for checkpoint in (checkpoints, checkpoints / "checkpoint_best.pt"):
        assert load_summarizer(str(checkpoint), device="cpu").summarize(article(3), **QUICK) == expected


def test_files_beside_a_moved_checkpoint_are_used(folder, trained_folder):
    """Check that files beside the checkpoint are used if the recorded paths no longer exist."""
    hub = load_summarizer(str(folder / "checkpoint_best.pt"), device="cpu")
    assert hub.task.cfg.data == str(folder) and hub.cfg.bpe.sentencepiece_model == str(folder / "sentencepiece.model")


@pytest.mark.parametrize("name", ["a,b", "%s $x {y}", "a|b #'\"", "\\"])
def test_folder_names_with_special_characters_work(folder, tmp_path, name):
    hub = load_summarizer(str(folder.rename(tmp_path / name)), device="cpu")
    assert len(hub.summarize([article(3)], **QUICK)) == 1


@pytest.mark.parametrize(
    "name, message",
    [
        (b"with ${HOME}", r"with \$\{HOME\} has \$\{ in it, which fairseq cannot take: rename the folder"),
        (b"${oc.env:HOME}", r"has \$\{ and : in it"),
        (b"a:b", "a:b has : in it"),
        (b"caf\xe9", "has characters that are not UTF-8 in it"),
    ],
    ids=str,
)
def test_folder_names_that_fairseq_cannot_take_are_refused(folder, tmp_path, name, message, monkeypatch):
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)  # xdist cannot send such a name
    renamed = folder.rename(tmp_path / os.fsdecode(name))
    with pytest.raises(PyramidionError, match=message) as error:
        load_summarizer(str(renamed), device="cpu")
    assert "\n" not in str(error.value)
    shutil.copytree(renamed, folder)  # dictionaries elsewhere, the sentencepiece model still beside the checkpoint
    if b":" not in name:
        with pytest.raises(PyramidionError, match=message.partition(" has ")[2]):
            load_summarizer(str(renamed), data=str(folder), device="cpu")
    elsewhere = {"data": str(folder), "sentencepiece_model": str(folder / "sentencepiece.model")}
    assert load_summarizer(str(renamed), **elsewhere, device="cpu").max_source_length == 64


@pytest.mark.parametrize("language", ["../source", "/etc/x", "a/b", "..", 3, ["a"]])
def test_languages_that_are_not_plain_names_are_refused(folder, language):
    state = torch.load(folder / "checkpoint_best.pt", weights_only=True)
    state["cfg"]["task"]["source_lang"] = language
    torch.save(state, folder / "checkpoint_best.pt")
    with pytest.raises(
        PyramidionError, match=r"checkpoint_best\.pt (names .*no plain name|.*not the name of a language)"
    ):
        load_summarizer(str(folder), device="cpu")


def test_given_data_and_sentencepiece_model_are_used(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("dict.source.txt", "dict.target.txt"):
        shutil.move(folder / name, other / name)
    shutil.move(folder / "sentencepiece.model", other / "my.model")
    hub = load_summarizer(str(folder), data=str(other), sentencepiece_model=str(other / "my.model"), device="cpu")
    assert len(hub.summarize([article(3)], **QUICK)) == 1


def rename_task_data(folder):
    state = torch.load(folder / "checkpoint_best.pt", weights_only=True)
    state["cfg"]["task"]["data"] = "/nonexistent/data-bin"
    torch.save(state, folder / "checkpoint_best.pt")


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def shorten_dictionaries(folder):
    for side in ("source", "target"):
        lines = (folder / f"dict.{side}.txt").read_text().splitlines(keepends=True)
        (folder / f"dict.{side}.txt").write_text("".join(lines[:-5]))


def foreign_dictionaries(folder):
    size = len((folder / "dict.source.txt").read_text().splitlines())
    for side in ("source", "target"):
        make_dictionary(size + 4).save(str(folder / f"dict.{side}.txt"))
        text = (folder / f"dict.{side}.txt").read_text()
        (folder / f"dict.{side}.txt").write_text(text.replace("w0 ", "\u2581w0 "))


def byte_level_dictionaries(folder):
    for side in ("source", "target"):
        lines = (folder / f"dict.{side}.txt").read_text().splitlines()
        (folder / f"dict.{side}.txt").write_text("".join(f"{number} 1\n" for number in range(len(lines))))


@pytest.mark.parametrize(
    "damage, message",
    [
        (remove("checkpoint_best.pt"), "has no checkpoint_best.pt or checkpoint_last.pt"),
        (lambda f: [remove("dict.source.txt")(f), rename_task_data(f)], "no dict.source.txt and dict.target.txt in"),
        (remove("sentencepiece.model"), "no sentencepiece.model in .*: give its path with --sentencepiece-model"),
        (write("sentencepiece.model", b"nonsense"), "is not a sentencepiece model, or cannot be read"),
        (byte_level_dictionaries, "numbers of GPT-2's tokens, but no encoder.json with vocab.bpe is in"),
        (foreign_dictionaries, "is another model's: the dictionary has 4 of its"),
        (
            shorten_dictionaries,
            "symbols and does not belong to the dictionaries in .*, which have .*: give the folder of its own with",
        ),
        (write("checkpoint_best.pt", b"nonsense"), "is damaged, or no checkpoint"),
        (write("checkpoint_best.pt", b""), "is damaged, or no checkpoint"),
    ],
)
def test_missing_or_damaged_files_are_one_line_errors(folder, monkeypatch, tmp_path, damage, message):
    rename_task_data(folder)
    damage(folder)
    with pytest.raises(PyramidionError, match=message) as error:
        load_summarizer(str(folder), device="cpu")
    assert "\n" not in str(error.value)


def test_missing_checkpoint_and_unknown_device_are_refused(folder):
    with pytest.raises(PyramidionError, match=r"there is no checkpoint .*missing\.pt"):
        load_summarizer(f"{folder}/checkpoint_best.pt:{folder}/missing.pt")
    with pytest.raises(PyramidionError, match="--device nonsense"):
        load_summarizer(str(folder), device="nonsense")


def test_from_pretrained_overrides_known_options_and_refuses_others(folder):
    hub = PyramidionModel.from_pretrained(str(folder / "checkpoint_best.pt"), attention="full")
    assert all(isinstance(layer.self_attn, FullAttention) for layer in hub.models[0].encoder.layers)
    assert not hub.training and len(hub.summarize([article(3)], **QUICK)) == 1
    with pytest.raises(PyramidionError, match="nonsense: neither model nor task has such an option"):
        PyramidionModel.from_pretrained(str(folder), nonsense=1)
    with pytest.raises(PyramidionError, match=r"bpe='gpt2': the dictionary of .* goes with sentencepiece"):
        PyramidionModel.from_pretrained(str(folder), bpe="gpt2")


@pytest.mark.parametrize("options", [{}, {"bpe": "sentencepiece"}, {"attention": "full"}])
def test_from_pretrained_does_not_unpack_archives(tmp_path, options):
    """Check that archives are refused: fairseq would extract members to any path and replace the archive."""
    (tmp_path / "given").mkdir()
    path = tmp_path / "given" / "model.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../escaped"))
    before = path.read_bytes()
    with pytest.raises(PyramidionError, match="is damaged, or no checkpoint"):
        PyramidionModel.from_pretrained(str(path), **options)
    assert path.read_bytes() == before and not list(tmp_path.rglob("escaped"))
    with pytest.raises(PyramidionError, match=r"there is no checkpoint .*missing"):
        PyramidionModel.from_pretrained(str(tmp_path / "missing"), **options)


def test_word_dictionaries_load_without_a_sentencepiece_model(tmp_path):
    for side in ("source", "target"):
        make_dictionary(40).save(str(tmp_path / f"dict.{side}.txt"))
    hub = load_summarizer(write_checkpoint(tmp_path), device="cpu")
    (summary,) = hub.summarize("w1 w2 other w3. " * 3, with_provenance=True, **QUICK)
    assert summary.provenance.source.tokens[:4] == (5, 6, 3, 3)
    assert set(summary.text.split()) <= {f"w{i}" for i in range(40)} | {"<unk>", "<s>", "<pad>"}
