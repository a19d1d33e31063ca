"""Pretrained models to convert: a fairseq checkpoint, or a Hugging Face directory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Callable, NamedTuple

import torch
from torch import Tensor

from ... import vocabularies
from ...checkpoints import DamagedCheckpointError, load_checkpoint
from ...errors import PyramidionError
from ...models.architectures import ARCHITECTURES
from ...pretrained import generation_settings
from ...utils.files import check_plain_name, check_regular, read_json
from .. import byte_level, dictionary_files
from ..families.base import Family, reorder
from ..families.every import FAMILIES
from ..families.generation import read_generation
from ..state_changes import TensorChange
from ..subwords import find_subwords
from . import names

logger = logging.getLogger(__name__)


class PretrainedSummarizer(NamedTuple):
    """A pretrained model that has been read."""

    options: dict[str, Any]
    """Fields of PyramidionConfig."""
    state: dict[str, Tensor]
    """Tensors by fairseq's names, on the CPU, in their saved dtype."""
    symbols: list[str]
    """Symbols of the dictionary, one per row of the embedding, starting with the four special ones."""
    bpe: byte_level.Bpe | Path | None
    """A byte-level BPE, or the file of a sentencepiece model; None if nothing was found."""
    changes: tuple[TensorChange, ...] = ()
    """Changes of the tensors that fairseq's names and shapes required."""
    generation: dict[str, Any] = {}
    """Generation settings of the model, by fairseq's names, for generation.json."""


def read_source(
    path: Path, dictionary: Path | None = None, bpe: Path | None = None, family: Family | None = None
) -> PretrainedSummarizer:
    """Read a fairseq checkpoint (a file) or a Hugging Face model (a directory).

    Args:
        path: model.pt, or a directory with config.json and model.safetensors or pytorch_model.bin.
        dictionary: fairseq's dict.txt; by default the one next to model.pt, or built from the directory's vocabulary.
        bpe: a sentencepiece model, or a folder with one, with encoder.json and vocab.bpe, or with vocab.json and
            merges.txt; by default the model's folder.
        family: family of the model; by default BART.

    Raises:
        PyramidionError: the model is of another family, or something is missing or of another shape.
        OSError: a file cannot be read.
    """
    family = family or FAMILIES["bart"]
    folder = path if path.is_dir() else path.parent
    carried: Any = None
    if path.is_dir():
        source = _read_directory(path, dictionary, bpe, family)
    else:
        checkpoint = load_checkpoint(path)
        source, carried = _read_checkpoint(path, checkpoint, dictionary, family), checkpoint.get("extra_state")
    kept = find_subwords(source.symbols, bpe, [folder], carried, path)
    if kept is None:
        logger.warning(f"no BPE files in {folder}: give their folder with --bpe")
    return source._replace(bpe=kept)


def _read_directory(path: Path, dictionary: Path | None, bpe: Path | None, family: Family) -> PretrainedSummarizer:
    config = read_json(path / "config.json")
    own = "pyramidion" in config  # this package's export, which always has the names of BART
    kind = FAMILIES["bart"] if own else family
    given = kind.from_config(config)
    state, changes = kind.tensors(read_weights(path), given)
    embedding = state[names.EMBEDDINGS[0]]
    if not embedding.numel():  # it may have any number of rows, each of which would get a symbol
        raise DamagedCheckpointError(f"{path} has an empty embedding")
    if dictionary is not None and not kind.takes_dictionary:
        raise PyramidionError(f"the vocabulary of a {kind.title} is that of its tokenizer: omit --dictionary")
    if kind.takes_dictionary and (dictionary is not None or (path / "dict.txt").is_file()):
        place = dictionary or path / "dict.txt"
        symbols = _symbols(place, embedding.size(0))
        vocabularies.check_symbols(None, symbols, str(path), str(place), "give its own with --dictionary")
    else:
        found = byte_level.find_byte_level(bpe or path)
        symbols, rows = kind.vocabulary(path, embedding.size(0), found, bpe)
        if rows is not None:
            changes.append(reorder(state, rows))
    if not own:
        given = {**given, **kind.markers(path, config, symbols)}
    longest = given["max_target_positions"]
    generation = read_generation(path, config, longest) if own or family.keeps_generation else {}
    return PretrainedSummarizer(given, state, symbols, None, tuple(changes), generation)


def _read_checkpoint(
    path: Path, checkpoint: dict[str, Any], dictionary: Path | None, family: Family
) -> PretrainedSummarizer:
    arguments = _fairseq_arguments(checkpoint)
    given = family.from_fairseq(arguments)
    state = {name: tensor for name, tensor in checkpoint["model"].items() if not name.endswith("._float_tensor")}
    if state.get(names.EMBEDDINGS[0]) is None:
        raise PyramidionError(f"{path} has no {names.EMBEDDINGS[0]}")
    embedding = state[names.EMBEDDINGS[0]]
    state.setdefault(names.EMBEDDINGS[2], embedding)
    place = dictionary or path.parent / "dict.txt"
    known = family.fairseq_symbols(dictionary_files.read_dictionary(place), embedding.size(0), arguments)
    symbols = _fit_symbols(place, known, embedding.size(0))
    remedy = "give its own with --dictionary"
    vocabularies.check_symbols(checkpoint.get("extra_state"), symbols, str(path), str(place), remedy)
    if "document_marker" not in arguments:  # not a checkpoint of this package, which has the markers
        given = {**given, **family.fairseq_markers(arguments, symbols)}
    own = (arguments.get("arch") or arguments.get("_name")) in ARCHITECTURES
    settings = generation_settings(str(path.parent)) if own or family.keeps_generation else {}
    return PretrainedSummarizer(given, state, symbols, None, (), settings)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors in model.safetensors or pytorch_model.bin, or in several files with an index.

    Raises:
        PyramidionError: there are no weights, safetensors is not installed, or the index names files in other folders.
    """
    for name, read in (("model.safetensors", read_safetensors), ("pytorch_model.bin", _read_bin)):
        if (folder / name).is_file():
            return read(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _read_parts(index, read)
    raise PyramidionError(f"{folder} has no weights: neither model.safetensors nor pytorch_model.bin")


def _read_parts(index: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of all files that an index names."""
    given = read_json(index).get("weight_map")
    if not isinstance(given, dict) or not given:
        raise PyramidionError(f"{index} names no tensors: it has no weight_map")
    files = [index.parent / name for name in sorted({check_plain_name(name, index) for name in given.values()})]
    for file in files:
        check_regular(file)
        if not file.exists():
            raise PyramidionError(f"{file} is missing, but {index.name} names it: copy all files of the model")
    found = {key: tensor for file in files for key, tensor in read(file).items()}
    missing = next((name for name in given if name not in found), None)
    if missing is not None:
        raise PyramidionError(f"{index} names {missing}, which is in none of its files: they belong to another model")
    return found


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file by name."""
    safetensors = import_safetensors()
    try:
        return safetensors.load_file(str(path))
    except safetensors.SafetensorError as error:
        raise DamagedCheckpointError(f"{path} is damaged, or not a safetensors file ({error})") from None


def import_safetensors() -> Any:
    """Return the module ``safetensors.torch``, with its error type; PyramidionError if it is not installed."""
    try:
        import safetensors.torch
    except ImportError:
        raise PyramidionError("the package safetensors is missing: pip install safetensors") from None
    safetensors.torch.SafetensorError = safetensors.SafetensorError
    return safetensors.torch


def _read_bin(path: Path) -> dict[str, Tensor]:
    return {name: value for name, value in load_checkpoint(path).items() if torch.is_tensor(value)}


def _fairseq_arguments(checkpoint: dict[str, Any]) -> dict[str, Any]:
    args, cfg = checkpoint.get("args"), checkpoint.get("cfg")
    if args is not None:
        return dict(args) if isinstance(args, dict) else vars(args)
    if not cfg or "model" not in cfg or "model" not in checkpoint:
        raise PyramidionError("not a checkpoint of fairseq, which has 'model', and 'args' or 'cfg'")
    model = cfg["model"]
    return dict(model) if isinstance(model, dict) else vars(model)


def _symbols(path: Path, size: int) -> list[str]:
    return _fit_symbols(path, dictionary_files.read_dictionary(path), size)


def _fit_symbols(path: Path, symbols: list[str], size: int) -> list[str]:
    """Check the number of symbols, and append ``<mask>`` if one row is left.

    fairseq's denoising task adds ``<mask>`` after reading the dictionary.
    """
    if len(symbols) == size - 1 and "<mask>" not in symbols:
        symbols = [*symbols, "<mask>"]
    if len(symbols) != size:
        raise PyramidionError(f"{path} has {len(symbols):,} symbols, but the model's embedding {size:,} rows")
    return symbols
