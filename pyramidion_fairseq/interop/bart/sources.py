"""Pretrained models to convert: a fairseq checkpoint, or a Hugging Face directory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ... import vocabularies
from ...checkpoints import DamagedCheckpointError, load_checkpoint
from ...errors import PyramidionError
from ...utils.files import check_plain_name, check_regular
from ..pieces import find_bpe
from . import names, options, vocabulary

logger = logging.getLogger(__name__)


class Source(NamedTuple):
    """A pretrained model."""

    options: dict[str, Any]
    """Fields of PyramidionConfig."""
    state: dict[str, Tensor]
    """By fairseq's names, on the CPU, in the precision that it was saved in."""
    symbols: list[str]
    """The dictionary, one symbol for each row of the embedding, the four special ones first."""
    bpe: vocabulary.Bpe | Path | None
    """The file of a sentencepiece model where the dictionary has its pieces; None where nothing was found."""


def read_source(path: Path, dictionary: Path | None = None, bpe: Path | None = None) -> Source:
    """Read a fairseq checkpoint (a file) or a Hugging Face model (a directory).

    Args:
        path: model.pt, or a directory with config.json and model.safetensors or pytorch_model.bin.
        dictionary: fairseq's dict.txt; by default that beside model.pt, or made of the directory's vocabulary.
        bpe: a folder with encoder.json and vocab.bpe, or vocab.json and merges.txt, or a sentencepiece model; or that
            file; by default beside the model.

    Raises:
        PyramidionError: it is no BART, or something is missing or of another shape.
        OSError: a file cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    found = vocabulary.find_bpe(bpe or folder)
    carried = None
    if path.is_dir():
        config = vocabulary.read_json(path / "config.json")
        state = names.from_hugging_face(read_weights(path))
        embedding = state[names.EMBEDDINGS[0]]
        if not embedding.numel():  # of any number of rows, each of which would get a symbol
            raise DamagedCheckpointError(f"{path} has an embedding without numbers")
        size = embedding.size(0)
        given, symbols = options.from_config(config), None
        if dictionary is None and not (path / "dict.txt").is_file():
            symbols = vocabulary.symbols_from_rows(vocabulary.hugging_face_rows(path), size, found)
    else:
        checkpoint = load_checkpoint(path)
        given, symbols = options.from_fairseq(_fairseq_arguments(checkpoint)), None
        carried = checkpoint.get("extra_state")
        state = {name: tensor for name, tensor in checkpoint["model"].items() if not name.endswith("._float_tensor")}
        if state.get(names.EMBEDDINGS[0]) is None:
            raise PyramidionError(f"{path} has no {names.EMBEDDINGS[0]}")
        embedding = state[names.EMBEDDINGS[0]]
        state.setdefault(names.EMBEDDINGS[2], embedding)
        size = embedding.size(0)
    if symbols is None:
        place = dictionary or folder / "dict.txt"
        symbols = _symbols(place, size)
        vocabularies.check_symbols(carried, symbols, str(path), str(place), "say with --dictionary where its own is")
    kept = find_bpe(symbols, bpe, [folder], carried, path)
    if kept is None:
        logger.warning(f"no BPE files in {folder}: give their folder with --bpe")
    return Source(given, state, symbols, kept)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of model.safetensors or pytorch_model.bin, in one file or in several with an index.

    Raises:
        PyramidionError: there are none, safetensors is not installed, or the index names files of other folders.
    """
    for name, read in (("model.safetensors", read_safetensors), ("pytorch_model.bin", _read_bin)):
        if (folder / name).is_file():
            return read(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            given = vocabulary.read_json(index)["weight_map"].values()
            files = [folder / name for name in sorted({check_plain_name(name, index) for name in given})]
            for file in files:
                check_regular(file)
            return {key: tensor for file in files for key, tensor in read(file).items()}
    raise PyramidionError(f"{folder} has no weights: neither model.safetensors nor pytorch_model.bin")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return tensors by name."""
    safetensors = import_safetensors()
    try:
        return safetensors.load_file(str(path))
    except safetensors.SafetensorError as error:
        raise DamagedCheckpointError(f"{path} is damaged, or no safetensors file ({error})") from None


def import_safetensors() -> Any:
    """Return the module ``safetensors.torch``, with its error type; PyramidionError where it is not installed."""
    try:
        import safetensors.torch
    except ImportError:
        raise PyramidionError("reading and writing safetensors needs the package: pip install safetensors") from None
    safetensors.torch.SafetensorError = safetensors.SafetensorError
    return safetensors.torch


def _read_bin(path: Path) -> dict[str, Tensor]:
    return {name: value for name, value in load_checkpoint(path).items() if torch.is_tensor(value)}


def _fairseq_arguments(checkpoint: dict[str, Any]) -> dict[str, Any]:
    args, cfg = checkpoint.get("args"), checkpoint.get("cfg")
    if args is not None:
        return dict(args) if isinstance(args, dict) else vars(args)
    if not cfg or "model" not in cfg or "model" not in checkpoint:
        raise PyramidionError("not a checkpoint of fairseq: it needs 'model', and 'args' or 'cfg'")
    model = cfg["model"]
    return dict(model) if isinstance(model, dict) else vars(model)


def _symbols(path: Path, size: int) -> list[str]:
    """Return the dictionary's symbols.

    ``<mask>``, which fairseq's denoising task adds after reading, where a row is left.
    """
    symbols = vocabulary.read_dictionary(path)
    if len(symbols) == size - 1 and "<mask>" not in symbols:
        symbols.append("<mask>")
    if len(symbols) != size:
        raise PyramidionError(f"{path} has {len(symbols):,} symbols, the model's embedding {size:,} rows")
    return symbols
