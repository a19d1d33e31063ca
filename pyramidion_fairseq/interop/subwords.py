"""Search for the byte-level BPE or sentencepiece model that splits texts into the symbols of a dictionary."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from .. import vocabularies
from ..errors import PyramidionError
from ..inference.loading import check_pieces
from ..text.byte_level import byte_level_in, check_numbers
from ..text.pieces import are_sentencepiece
from ..text.tokenizers import SentencepieceTokenizer
from ..utils.files import check_regular
from . import byte_level, dictionary_files

#: File name of a sentencepiece model that this package writes.
MODEL = vocabularies.SENTENCEPIECE[0]


def find_subwords(
    symbols: list[str],
    given: Path | None,
    folders: Sequence[Path],
    extra_state: Any,
    checkpoint: Path,
    option: str = "--bpe",
) -> byte_level.Bpe | Path | None:
    """Return the byte-level BPE, or the file of the sentencepiece model, that belongs to a dictionary.

    Args:
        symbols: symbols of the dictionary, including special ones.
        given: a sentencepiece model, or a folder with one or with a BPE; None to search.
        folders: folders to search if nothing is given. A BPE in the format of Hugging Face is found in the first only.
        extra_state: the checkpoint's ``extra_state``, which may describe its files, or None.
        checkpoint: name of the checkpoint, for messages.
        option: option of the command that sets ``given``, for messages.

    Returns:
        None if nothing is given and nothing is found.

    Raises:
        PyramidionError: the given path has no such files, or the files do not belong to the dictionary or checkpoint.
    """
    if not are_sentencepiece(symbols):
        folder = given or folders[0]
        found = byte_level.find_byte_level(folder)
        if given and found is None:
            raise PyramidionError(f"{given} has no encoder.json and vocab.bpe, nor merges.txt or tokenizer.json")
        files = next(byte_level_in(map(str, folders)), None)
        if found is None and files is not None:
            folder = Path(files[0]).parent
            found = byte_level.find_byte_level(folder)
        for files in byte_level_in([str(folder)]):
            remedy = f"give the folder of those files with {option}"
            vocabularies.check_tokenizer(extra_state, "byte_level", files, str(checkpoint), remedy)
        if found is not None:
            remedy = f"give the folder of its own files with {option}"
            check_numbers(symbols, found.numbers.values(), folder, remedy)
        return found
    if given and not given.is_dir():
        check_regular(given)
    places = map(str, [given] if given else folders)
    path = given if given and given.is_file() else next(vocabularies.sentencepiece_in(places), None)
    if path is None:
        if given:
            raise PyramidionError(f"{given} has no {MODEL}: give the path of the file or its folder with {option}")
        return None
    check_pieces(SentencepieceTokenizer.from_file(dictionary_files.make_dictionary(symbols), str(path)), str(path))
    remedy = f"give its path with {option}"
    vocabularies.check_tokenizer(extra_state, "sentencepiece", [str(path)], str(checkpoint), remedy)
    return Path(path)
