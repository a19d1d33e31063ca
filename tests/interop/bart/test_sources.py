"""Tests of reading Hugging Face folders from unknown sources: the files that they name and contain."""

import json
import os
from pathlib import Path

import pytest
import torch

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.interop import byte_level, dictionary_files
from pyramidion_fairseq.interop.bart.sources import read_source, read_weights
from pyramidion_fairseq.utils.files import read_json


def write_index(folder, form, *names):
    (folder / f"{form}.index.json").write_text(json.dumps({"weight_map": {f"model/{name}": name for name in names}}))


@pytest.fixture
def folder(tmp_path):
    """Return a folder with weights in two files and an index; other weights are outside of it."""
    (tmp_path / "model").mkdir()
    for name in ("model/a.bin", "model/b.bin", "outside.bin"):
        torch.save({name: torch.ones(1)}, tmp_path / name)
    write_index(tmp_path / "model", "pytorch_model.bin", "a.bin", "b.bin", "a.bin")
    return tmp_path / "model"


def test_read_weights_reads_all_files_of_an_index(folder):
    assert set(read_weights(folder)) == {"model/a.bin", "model/b.bin"}
    (folder / "b.bin").rename(folder / "blob")
    (folder / "b.bin").symlink_to("blob")  # links, as in the hub's cache
    assert set(read_weights(folder)) == {"model/a.bin", "model/b.bin"}


@pytest.mark.parametrize(
    "index, message",
    [
        ({}, "names no tensors: it has no weight_map"),
        ({"weight_map": ["a.bin"]}, "names no tensors: it has no weight_map"),
        ({"weight_map": {}}, "names no tensors: it has no weight_map"),
        ({"weight_map": {"x": "c.bin"}}, r"c\.bin is missing, but pytorch_model\.bin\.index\.json names it: copy all"),
        ({"weight_map": {"x": "a.bin"}}, "names x, which is in none of its files: they belong to another model"),
    ],
)
def test_index_that_does_not_match_its_files_is_refused(folder, index, message):
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(PyramidionError, match=message):
        read_weights(folder)


@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    "name",
    [
        "../outside.bin",
        "{}/outside.bin",
        "sub/../../outside.bin",
        "..\\outside.bin",
        "c:a",
        "..",
        ".",
        "",
        "a\0",
        None,
        3,
    ],
)
def test_index_that_names_files_outside_its_folder_is_refused(folder, form, name):
    (folder / "pytorch_model.bin.index.json").unlink()
    write_index(folder, form, "a.bin", name.format(folder.parent) if isinstance(name, str) else name)
    with pytest.raises(PyramidionError, match=r"index\.json names .* no plain name of a file beside it"):
        read_weights(folder)


@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: Path(path).symlink_to("/dev/zero"), os.mkdir])
def test_weights_that_are_not_regular_files_are_refused(folder, form, make):
    """Check pipes, which block, devices, which fill the memory, and folders."""
    (folder / "pytorch_model.bin.index.json").unlink()
    write_index(folder, form, "a.bin", "strange")
    make(folder / "strange")
    with pytest.raises(PyramidionError, match="strange is no regular file"):
        read_weights(folder)
    make(folder / form)
    (folder / f"{form}.index.json").unlink()
    with pytest.raises(PyramidionError, match="has no weights"):
        read_weights(folder)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: Path(path).symlink_to("/dev/zero")])
def test_vocabularies_that_are_not_regular_files_are_refused(tmp_path, make):
    for name in ("vocab.json", "tokenizer.json", "merges.txt", "encoder.json", "vocab.bpe", "config.json", "dict.txt"):
        make(tmp_path / name)
    assert byte_level.find_byte_level(tmp_path) is None
    with pytest.raises(PyramidionError, match="has no vocabulary"):
        byte_level.hugging_face_rows(tmp_path)
    readers = (read_json, byte_level.read_merges, dictionary_files.read_dictionary)
    for name, read in zip(("config.json", "vocab.bpe", "dict.txt"), readers):
        with pytest.raises(PyramidionError, match="is no regular file"):
            read(tmp_path / name)


def test_tokenizer_json_of_another_kind_is_refused(tmp_path):
    vocabulary = [["<unk>", 0.0], ["a", -1.0]]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram", "vocab": vocabulary}}))
    with pytest.raises(PyramidionError, match=r"tokenizer\.json of .* is not that of a byte-level BPE"):
        byte_level.hugging_face_rows(tmp_path)


def test_empty_embedding_is_refused(tmp_path):
    """Check an embedding of width 0, whose many rows would each get a symbol."""
    safetensors = pytest.importorskip("safetensors.torch")
    given = tmp_path / "given"
    given.mkdir()
    (given / "config.json").write_text(
        json.dumps({"model_type": "bart", "d_model": 32, "max_position_embeddings": 64})
    )
    safetensors.save_file({"model.shared.weight": torch.ones(10**12, 0)}, given / "model.safetensors")
    with pytest.raises(PyramidionError, match="an empty embedding"):
        read_source(given)
