"""What splits texts into the symbols of a dictionary: a byte-level BPE, or a sentencepiece model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from .. import vocabularies
from ..errors import PyramidionError
from ..inference.loading import check_pieces
from ..text.byte_level import check_numbers
from ..text.pieces import are_sentencepiece
from ..text.tokenizers import SentencepieceTokenizer
from ..utils.files import check_regular
from . import byte_level, dictionary_files

#: The name of a sentencepiece model where we write one.
MODEL = vocabularies.SENTENCEPIECE[0]


def find_subwords(
    symbols: list[str],
    given: Path | None,
    folders: Sequence[Path],
    extra_state: Any,
    checkpoint: Path,
    option: str = "--bpe",
) -> byte_level.Bpe | Path | None:
    """Return what splits texts into a dictionary's symbols: a byte-level BPE, or the file of a sentencepiece model.

    Args:
        symbols: the dictionary's, special ones included.
        given: a folder with it, or a sentencepiece model.
        folders: where to look for a sentencepiece model if nothing is given; for a BPE in the first of them.
        extra_state: the checkpoint's, which may know its sentencepiece model; None where there is none.
        checkpoint: its name.
        option: of the command that is run, by which something is given.

    Returns:
        None where nothing is given, and nothing is there.

    Raises:
        PyramidionError: nothing is in what is given, or the BPE or sentencepiece model is another one's.
    """
    if not are_sentencepiece(symbols):
        found = byte_level.find_byte_level(given or folders[0])
        if given and found is None:
            raise PyramidionError(f"{given} has no encoder.json and vocab.bpe, nor merges.txt or tokenizer.json")
        for files in vocabularies.byte_level_in([str(given or folders[0])]):
            remedy = f"say with {option} which folder has that"
            vocabularies.check_byte_level(extra_state, files, str(checkpoint), remedy)
        if found is not None:
            remedy = f"say with {option} which folder has its own"
            check_numbers(symbols, found.numbers.values(), given or folders[0], remedy)
        return found
    if given and not given.is_dir():
        check_regular(given)
    places = map(str, [given] if given else folders)
    path = given if given and given.is_file() else next(vocabularies.sentencepiece_in(places), None)
    if path is None:
        if given:
            raise PyramidionError(f"{given} has no {MODEL}: say with {option} which folder has it, or its file")
        return None
    check_pieces(SentencepieceTokenizer.from_file(dictionary_files.make_dictionary(symbols), str(path)), str(path))
    vocabularies.check_sentencepiece(extra_state, str(path), str(checkpoint), f"say with {option} where that is")
    return Path(path)
