"""The dictionaries and tokenizer files of a checkpoint: recorded in it, and compared with those of the data.

fairseq only compares sizes, and 32,000 symbols is a common default. With another dictionary of the same size, a model
would read and write nonsense. A checkpoint therefore carries the symbols of both dictionaries, in order, and the
SHA-256 of the sentencepiece model or byte-level BPE if known at training. The symbols, about 250 kB, allow an error to
name the first one that differs.

The record is stored in ``extra_state``. Every process gets it when training continues or fine-tunes, scripts that
average checkpoints or take the EMA's weights keep it, and ``weights_only`` loads it because it is text. The
alternatives are worse. The options (``cfg``) are printed in full and sent to loggers. A buffer of the model would be
decayed by fairseq's EMA, cast with ``--fp16`` or missed by strict loading, and fairseq's own models would not have it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from argparse import Namespace
from typing import Any, Iterable, Iterator, Mapping, Sequence

from fairseq.data import Dictionary

from .errors import PyramidionError
from .text.byte_level import byte_level_in, is_byte_level
from .text.pieces import are_sentencepiece
from .text.tokenizers import SentencepieceTokenizer

logger = logging.getLogger(__name__)

#: Key in a checkpoint's ``extra_state``.
KEY = "vocabularies"
SIDES = ("source", "target")
#: File names of sentencepiece models.
SENTENCEPIECE = ("sentencepiece.model", "sentencepiece.bpe.model", "spm.model", "spiece.model")
#: Options of ``--bpe gpt2`` that name these files.
BYTE_LEVEL_OPTIONS = ("gpt2_encoder_json", "gpt2_vocab_bpe")
#: Entries of a record with the digest of a tokenizer's files, and what messages call them.
_TOKENIZERS = {"sentencepiece": "sentencepiece model", "byte_level": "byte-level BPE"}
_MASK = "<mask>"
#: Number of special symbols before those of a dictionary's file.
_NUM_SPECIAL = len(Dictionary())
_EMBEDDING = "{}.embed_tokens.weight"


def describe(
    source: Sequence[str], target: Sequence[str], sentencepiece: str | None = None, byte_level: str | None = None
) -> dict[str, Any]:
    """Return the record to store in a checkpoint under :data:`KEY`.

    Args:
        source, target: symbols of the dictionaries, including special ones.
        sentencepiece: SHA-256 of the sentencepiece model, see :func:`digest`; None if unknown.
        byte_level: SHA-256 of the files of a byte-level BPE; None if unknown.
    """
    texts = dict(zip(SIDES, ("\n".join(source), "\n".join(target))))
    if texts["target"] == texts["source"]:
        texts["target"] = texts["source"]  # the same object is written only once
    return {**texts, "sentencepiece": sentencepiece, **({"byte_level": byte_level} if byte_level else {})}


def of_training(task: Any, bpe: Any) -> dict[str, Any] | None:
    """Return :func:`describe` for a task's training data, or None for a task without two dictionaries.

    Args:
        task: task of fairseq.
        bpe: options of ``--bpe``, or None. If they name no sentencepiece model, the one beside the data is used,
            provided that its pieces are in the dictionary.
    """
    dictionaries = dictionaries_of(task)
    if dictionaries is None:
        return None
    path, source, target = sentencepiece_of(bpe), *dictionaries
    data = str(getattr(task.cfg, "data", None) or ".").split(os.pathsep)[0]
    folders = [data, os.path.dirname(os.path.abspath(data))]
    if is_byte_level(source):
        files = byte_level_of(bpe) or next(byte_level_in(folders), None)
        return describe(source.symbols, target.symbols, byte_level=digest(*files) if files else None)
    if path is None and are_sentencepiece(source.symbols):
        path = next(sentencepiece_in(folders), None)
        if path is not None and not _knows_pieces(source, path):
            path = None
    return describe(source.symbols, target.symbols, digest(path) if path else None)


def dictionaries_of(task: Any) -> tuple[Dictionary, Dictionary] | None:
    """Return a task's source and target dictionaries, or None if it does not have both."""
    try:
        found = task.source_dictionary, task.target_dictionary
    except (AttributeError, NotImplementedError):
        return None
    return found if all(isinstance(dictionary, Dictionary) for dictionary in found) else None


def sentencepiece_of(bpe: Any) -> str | None:
    """Return the file named by the options of ``--bpe sentencepiece``, or None if it does not exist."""
    path = getattr(bpe, "sentencepiece_model", None) if getattr(bpe, "_name", None) == "sentencepiece" else None
    return path if path and os.path.isfile(path) else None


def sentencepiece_in(folders: Iterable[str]) -> Iterator[str]:
    """Return the sentencepiece models in the given folders, found by name."""
    paths = (os.path.join(folder, name) for folder in folders for name in SENTENCEPIECE)
    return filter(os.path.isfile, paths)


def byte_level_of(bpe: Any) -> tuple[str, ...] | None:
    """Return the files named by the options of ``--bpe gpt2``, or None if not all exist, as before their download."""
    named = (str(getattr(bpe, name, None)) for name in BYTE_LEVEL_OPTIONS)
    paths = tuple(named) if getattr(bpe, "_name", None) == "gpt2" else ()
    return paths if paths and all(map(os.path.isfile, paths)) else None


def digest(*paths: str) -> str:
    """Return the SHA-256 of one file, or of several files concatenated."""
    found = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            found.update(file.read())
    return found.hexdigest()


def _knows_pieces(dictionary: Dictionary, path: str) -> bool:
    """Return whether a dictionary has at least nine tenths of a sentencepiece model's pieces.

    If so, it was probably made from them.
    """
    try:
        known, pieces = SentencepieceTokenizer.from_file(dictionary, path).count_known_pieces()
    except PyramidionError:
        return False
    return 10 * known >= 9 * pieces


def recorded(extra_state: Any) -> Mapping[str, Any] | None:
    """Return the record that a checkpoint stores under :data:`KEY`, or None if it is missing or malformed."""
    found = extra_state.get(KEY) if isinstance(extra_state, Mapping) else None
    is_one = isinstance(found, Mapping) and all(isinstance(found.get(side), str) for side in SIDES)
    return found if is_one else None


def add_named_dictionaries(state: Mapping[str, Any]) -> None:
    """Add a record of the dictionaries named in its options to a checkpoint without one (older version or other code).

    The dictionaries are in ``task.data`` of the options. They are used if they can be read and match the embeddings'
    sizes.
    """
    extra_state = state.get("extra_state")
    if isinstance(extra_state, dict) and recorded(extra_state) is None:
        extra_state.pop(KEY, None)
        found = named_by(state)
        if found is not None:
            extra_state[KEY] = found


def named_by(state: Mapping[str, Any], folder: str | None = None) -> dict[str, Any] | None:
    """Return :func:`describe` for the dictionaries named in a checkpoint's options, and their folder as ``read_from``.

    Args:
        state: the checkpoint.
        folder: folder to use instead of the one named in the options.
    """
    options = options_of(state, "task")
    folder = folder or str(options.get("data") or "").split(os.pathsep)[0]
    symbols = []
    for side, part in zip(SIDES, ("encoder", "decoder")):
        path = os.path.join(folder, f"dict.{options.get(f'{side}_lang') or side}.txt")
        embedding = state["model"].get(_EMBEDDING.format(part)) if isinstance(state.get("model"), dict) else None
        if not folder or embedding is None or not os.path.isfile(path):
            return None
        try:
            symbols.append(Dictionary.load(path).symbols)
        except Exception:  # the file may have any content
            return None
        if len(embedding) - len(symbols[-1]) not in (0, 1):  # 1: a row for <mask>
            return None
    return {**describe(*symbols), "read_from": folder}


def options_of(state: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """Return a part of a checkpoint's options, in any form in which fairseq has saved them; empty if missing."""
    cfg = state.get("cfg")
    found = cfg.get(part) if isinstance(cfg, Mapping) else state.get("args")
    found = vars(found) if isinstance(found, Namespace) else found
    return found if isinstance(found, Mapping) else {}


def check_dictionaries(extra_state: Any, task: Any, path: str, remedy: str, quiet: bool = False) -> None:
    """Raise an error if a checkpoint's dictionaries differ from the task's, and warn if that cannot be known.

    Args:
        extra_state: ``extra_state`` of the checkpoint, as loaded by fairseq.
        task: task of fairseq with its dictionaries.
        path: path of the checkpoint.
        remedy: what the user can do about it, for the error.
        quiet: whether to leave the warning to another process.

    Raises:
        PyramidionError: names the dictionary that differs, and its first different symbol.
    """
    dictionaries, record = dictionaries_of(task), recorded(extra_state)
    if dictionaries is None:
        return
    if not quiet:
        _warn_of_no_record(record, task, path)
    for side, dictionary in zip(SIDES, dictionaries):
        check_symbols(extra_state, dictionary.symbols, path, dictionary_path(task, side), remedy, (side,))


def check_symbols(
    extra_state: Any,
    symbols: Sequence[str],
    path: str,
    where: str,
    remedy: str,
    sides: Sequence[str] = SIDES,
) -> None:
    """Raise an error if the symbols stored in a checkpoint differ from the given ones. Without a record it passes.

    Args:
        extra_state: ``extra_state`` of the checkpoint.
        symbols: symbols of a dictionary, including special ones.
        path: path of the checkpoint.
        where: path of the dictionary.
        remedy: what the user can do about it, for the error.
        sides: dictionaries of the checkpoint to compare.

    Raises:
        PyramidionError: names the dictionary that differs, and its first different symbol.
    """
    record = recorded(extra_state)
    if record is None:
        return
    for side in sides:
        difference = first_difference(record[side].split("\n"), symbols)
        if difference:
            raise PyramidionError(
                f"{path} was trained with another {side} dictionary than {where}: {difference}; {remedy}"
            )


def _warn_of_no_record(record: Mapping[str, Any] | None, task: Any, path: str) -> None:
    read_from = str(record.get("read_from") or "") if record else ""
    if record and not read_from:
        return
    data = str(getattr(task.cfg, "data", None) or "").split(os.pathsep)[0]
    same = os.path.realpath(read_from) == os.path.realpath(data)
    known = f"those in {read_from}, which its options name, are compared" if read_from and not same else "not compared"
    logger.warning(f"{path} does not carry its dictionaries, as it is older or of other code: {known}")


def dictionary_path(task: Any, side: str) -> str:
    """Return the file of a task's dictionary, for messages, or "the data's" if the task does not know it."""
    data, language = (getattr(getattr(task, "cfg", None), name, None) for name in ("data", f"{side}_lang"))
    return os.path.join(str(data).split(os.pathsep)[0], f"dict.{language}.txt") if data and language else "the data's"


def first_difference(trained: Sequence[str], given: Sequence[str]) -> str | None:
    """Describe the first symbol of a dictionary that differs from that of a model's training, or return None.

    A ``<mask>`` at the end of the model's dictionary does not count if the given one has none: fairseq's denoising
    task adds it, and :func:`~pyramidion_fairseq.interop.bart.adapt_state` drops its row.
    """
    trained, given = list(trained), list(given)
    if len(trained) == len(given) + 1 and trained[-1] == _MASK and _MASK not in given:
        trained = trained[:-1]
    if trained == given:
        return None
    shorter = min(len(trained), len(given))
    number = next((i for i in range(shorter) if trained[i] != given[i]), shorter)
    symbol, expected = (repr(s[number])[:60] if number < len(s) else "no symbol" for s in (given, trained))
    line = f"line {number - _NUM_SPECIAL + 1}" if number >= _NUM_SPECIAL else f"special symbol {number}"
    sizes = f" ({len(given):,} symbols, not {len(trained):,})" if len(given) != len(trained) else ""
    return f"{line} has {symbol}, not {expected}{sizes}"


def check_same_sentencepiece(extra_state: Any, of_data: Mapping[str, Any] | None, path: str) -> None:
    """Raise an error if the sentencepiece models or byte-level BPEs of data and checkpoint are known and differ.

    Args:
        extra_state: ``extra_state`` of the checkpoint.
        of_data: record of the data, see :func:`of_training`.
        path: path of the checkpoint.

    Raises:
        PyramidionError: they differ.
    """
    for kind, remedy in (
        ("sentencepiece", "prepare the data with that one (prepare.py --spm-model)"),
        ("byte_level", "encode the data with the encoder.json and vocab.bpe of its training"),
    ):
        trained, now = ((record or {}).get(kind) for record in (recorded(extra_state), of_data))
        if trained and now and trained != now:
            raise PyramidionError(f"{path} was trained with another {_TOKENIZERS[kind]} than the data's: {remedy}")


def check_tokenizer(extra_state: Any, kind: str, paths: Sequence[str], checkpoint: str, remedy: str) -> None:
    """Raise an error for another sentencepiece model or byte-level BPE than the one recorded in a checkpoint, if any.

    Args:
        extra_state: ``extra_state`` of the checkpoint.
        kind: "sentencepiece" or "byte_level".
        paths: the sentencepiece model, or the BPE's files.
        checkpoint: path of the checkpoint.
        remedy: what the user can do about it, for the error.

    Raises:
        PyramidionError: they differ.
    """
    trained = (recorded(extra_state) or {}).get(kind)
    if trained and digest(*paths) != trained:
        verb = "is" if kind == "sentencepiece" else "are"
        raise PyramidionError(
            f"{' and '.join(paths)} {verb} not the {_TOKENIZERS[kind]} that {checkpoint} was trained with; {remedy}"
        )
