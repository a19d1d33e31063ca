"""Which dictionaries and sentencepiece model a checkpoint belongs to: recorded in it, and compared with the data.

fairseq compares sizes, and 32,000 symbols is everybody's default: with another dictionary of that size a model reads
and writes nonsense. So a checkpoint carries the symbols of both dictionaries, in their order, and the SHA-256 of the
sentencepiece model or byte-level BPE where training knows one. The symbols themselves, some 250 kB, let an error name
the first one that differs.

They are in ``extra_state``, which every process gets when training goes on or fine-tunes, which scripts that average
checkpoints and take the EMA's weights keep, and which ``weights_only`` loads, being text. The options (``cfg``) are
printed whole and sent to loggers; a buffer of the model would be decayed by fairseq's EMA, cast with ``--fp16`` or
missed by strict loading, and models of fairseq's own would not have it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from argparse import Namespace
from typing import Any, Iterable, Iterator, Mapping, Sequence

from fairseq.data import Dictionary

from .errors import PyramidionError
from .text.byte_level import is_byte_level
from .text.pieces import are_sentencepiece
from .text.tokenizers import SentencepieceTokenizer

logger = logging.getLogger(__name__)

#: In a checkpoint's ``extra_state``.
KEY = "vocabularies"
SIDES = ("source", "target")
#: Names of the sentencepiece model in a folder.
SENTENCEPIECE = ("sentencepiece.model", "sentencepiece.bpe.model", "spm.model", "spiece.model")
#: Names of a byte-level BPE's files in a folder.
BYTE_LEVEL = ("encoder.json", "vocab.bpe")
#: Options of ``--bpe gpt2`` that name them.
BYTE_LEVEL_OPTIONS = ("gpt2_encoder_json", "gpt2_vocab_bpe")
_MASK = "<mask>"
#: Symbols that dictionaries have before those of their files.
_NUM_SPECIAL = len(Dictionary())
_EMBEDDING = "{}.embed_tokens.weight"


def describe(
    source: Sequence[str], target: Sequence[str], sentencepiece: str | None = None, byte_level: str | None = None
) -> dict[str, Any]:
    """Return what a checkpoint is to carry under :data:`KEY`.

    Args:
        source, target: the symbols of the dictionaries, special ones included.
        sentencepiece: SHA-256 of the sentencepiece model, as of :func:`digest`; None if it is not known.
        byte_level: the same of the files of a byte-level BPE.
    """
    texts = dict(zip(SIDES, ("\n".join(source), "\n".join(target))))
    if texts["target"] == texts["source"]:
        texts["target"] = texts["source"]  # one object is written once
    return {**texts, "sentencepiece": sentencepiece, **({"byte_level": byte_level} if byte_level else {})}


def of_training(task: Any, bpe: Any) -> dict[str, Any] | None:
    """Return what :func:`describe` gives for a task's training data; None for a task without two dictionaries.

    Args:
        task: fairseq's.
        bpe: the options of ``--bpe``, or None. Without a sentencepiece model there, the one beside the data is taken,
            if its pieces are in the dictionary.
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
    """Return a task's dictionaries of source and target; None if it has not both."""
    try:
        found = task.source_dictionary, task.target_dictionary
    except (AttributeError, NotImplementedError):
        return None
    return found if all(isinstance(dictionary, Dictionary) for dictionary in found) else None


def sentencepiece_of(bpe: Any) -> str | None:
    """Return the file that the options of ``--bpe sentencepiece`` name; None if there is none."""
    path = getattr(bpe, "sentencepiece_model", None) if getattr(bpe, "_name", None) == "sentencepiece" else None
    return path if path and os.path.isfile(path) else None


def sentencepiece_in(folders: Iterable[str]) -> Iterator[str]:
    """Return the sentencepiece models in these folders, by their names."""
    paths = (os.path.join(folder, name) for folder in folders for name in SENTENCEPIECE)
    return filter(os.path.isfile, paths)


def byte_level_of(bpe: Any) -> tuple[str, ...] | None:
    """Return the files that the options of ``--bpe gpt2`` name.

    None if they are not there, as those to be downloaded.
    """
    named = (str(getattr(bpe, name, None)) for name in BYTE_LEVEL_OPTIONS)
    paths = tuple(named) if getattr(bpe, "_name", None) == "gpt2" else ()
    return paths if paths and all(map(os.path.isfile, paths)) else None


def byte_level_in(folders: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Return the files of byte-level BPEs in these folders, where both are, by their names."""
    found = (tuple(os.path.join(folder, name) for name in BYTE_LEVEL) for folder in folders)
    return (paths for paths in found if all(map(os.path.isfile, paths)))


def digest(*paths: str) -> str:
    """Return SHA-256 of a file, or of several, one after the other."""
    found = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            found.update(file.read())
    return found.hexdigest()


def _knows_pieces(dictionary: Dictionary, path: str) -> bool:
    """Return whether the dictionary has nine tenths of a sentencepiece model's pieces.

    Then it was probably made from them.
    """
    try:
        known, pieces = SentencepieceTokenizer.from_file(dictionary, path).count_known_pieces()
    except PyramidionError:
        return False
    return 10 * known >= 9 * pieces


def recorded(extra_state: Any) -> Mapping[str, Any] | None:
    """Return what a checkpoint carries under :data:`KEY`; None if it carries nothing, or nothing of that form."""
    found = extra_state.get(KEY) if isinstance(extra_state, Mapping) else None
    is_one = isinstance(found, Mapping) and all(isinstance(found.get(side), str) for side in SIDES)
    return found if is_one else None


def add_named_dictionaries(state: Mapping[str, Any]) -> None:
    """Give a checkpoint without a record, of an older version or other code, that of the dictionaries it names.

    Those are in ``task.data`` of its options. They count if they can be read and have its embeddings' sizes.
    """
    extra_state = state.get("extra_state")
    if isinstance(extra_state, dict) and recorded(extra_state) is None:
        extra_state.pop(KEY, None)
        found = named_by(state)
        if found is not None:
            extra_state[KEY] = found


def named_by(state: Mapping[str, Any], folder: str | None = None) -> dict[str, Any] | None:
    """Return :func:`describe` the dictionaries that a checkpoint's options name, with ``read_from``, where they are.

    Args:
        state: the checkpoint.
        folder: to look in instead of the one that the options name.
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
        except Exception:  # of any content
            return None
        if len(embedding) - len(symbols[-1]) not in (0, 1):  # 1: a row for <mask>
            return None
    return {**describe(*symbols), "read_from": folder}


def options_of(state: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """Return a part of a checkpoint's options, in any of the forms that fairseq has saved them in.

    Empty where none is.
    """
    cfg = state.get("cfg")
    found = cfg.get(part) if isinstance(cfg, Mapping) else state.get("args")
    found = vars(found) if isinstance(found, Namespace) else found
    return found if isinstance(found, Mapping) else {}


def check(extra_state: Any, task: Any, path: str, remedy: str, quiet: bool = False) -> None:
    """Refuse a checkpoint of other dictionaries than the task's; warn where that cannot be known.

    Args:
        extra_state: the checkpoint's, as read by fairseq.
        task: fairseq's, with its dictionaries.
        path: the checkpoint's name.
        remedy: what the user can do about it.
        quiet: leave the warning to another process.

    Raises:
        PyramidionError: says which dictionary differs, and at which symbol first.
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
    """Refuse a checkpoint that carries other symbols than these; one that carries none is taken.

    Args:
        extra_state: the checkpoint's.
        symbols: of a dictionary, special ones included.
        path: the checkpoint's name.
        where: that of the dictionary.
        remedy: what the user can do about it.
        sides: which of the checkpoint's dictionaries to compare.

    Raises:
        PyramidionError: says which one differs, and at which symbol first.
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
    """Return the file of a task's dictionary, for messages; "the data's" where the task does not say."""
    data, language = (getattr(getattr(task, "cfg", None), name, None) for name in ("data", f"{side}_lang"))
    return os.path.join(str(data).split(os.pathsep)[0], f"dict.{language}.txt") if data and language else "the data's"


def first_difference(trained: Sequence[str], given: Sequence[str]) -> str | None:
    """Return the first symbol that a dictionary has otherwise than the one that a model was trained with.

    None if there is no difference.

    ``<mask>`` at the end of the model's is no difference where the dictionary has none: fairseq's denoising task adds
    it, and :func:`~pyramidion_fairseq.interop.bart.adapt_state` leaves its row out.
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
    """Refuse data of another sentencepiece model or byte-level BPE than a checkpoint's, where both are known.

    Args:
        extra_state: the checkpoint's.
        of_data: what the data have, as of :func:`of_training`.
        path: the checkpoint's name.

    Raises:
        PyramidionError: says so.
    """
    trained, now = ((record or {}).get("sentencepiece") for record in (recorded(extra_state), of_data))
    if trained and now and trained != now:
        raise PyramidionError(
            f"{path} was trained with another sentencepiece model than the data's: prepare the data with that one "
            "(prepare.py --spm-model)"
        )
    trained, now = ((record or {}).get("byte_level") for record in (recorded(extra_state), of_data))
    if trained and now and trained != now:
        raise PyramidionError(
            f"{path} was trained with another byte-level BPE than the data's: encode the data with the encoder.json "
            "and vocab.bpe of its training"
        )


def check_sentencepiece(extra_state: Any, path: str, checkpoint: str, remedy: str) -> None:
    """Refuse a sentencepiece model that is not the one of a checkpoint's training, where that is recorded.

    Args:
        extra_state: the checkpoint's.
        path: the sentencepiece model.
        checkpoint: its name.
        remedy: what the user can do about it.

    Raises:
        PyramidionError: says so.
    """
    trained = (recorded(extra_state) or {}).get("sentencepiece")
    if trained and digest(path) != trained:
        raise PyramidionError(f"{path} is not the sentencepiece model that {checkpoint} was trained with; {remedy}")


def check_byte_level(extra_state: Any, paths: Sequence[str], checkpoint: str, remedy: str) -> None:
    """Refuse a byte-level BPE that is not the one of a checkpoint's training, as :func:`check_sentencepiece` does.

    Args:
        extra_state: the checkpoint's.
        paths: the files of the BPE.
        checkpoint: its name.
        remedy: what the user can do about it.

    Raises:
        PyramidionError: says so.
    """
    trained = (recorded(extra_state) or {}).get("byte_level")
    if trained and digest(*paths) != trained:
        names = " and ".join(map(str, paths))
        raise PyramidionError(f"{names} are not the byte-level BPE that {checkpoint} was trained with; {remedy}")
