"""Vocabularies of RoBERTa, CamemBERT and XLM-R: the symbol of every row of the embedding, in fairseq's order."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ... import vocabularies
from ...errors import PyramidionError
from ...text.tokenizers import SentencepieceTokenizer
from ...utils.files import read_json
from .. import byte_level, dictionary_files

MASK = "<mask>"
_OVERWRITE = "#fairseq:overwrite"
#: Rows of CamemBERT's <s> and </s>, which stand after four rows that nothing uses.
_CAMEMBERT = {0: 5, 2: 6}


class Rows(NamedTuple):
    """What :func:`read_rows` returns."""

    symbols: list[str]
    """One for each row of our embedding."""
    order: list[int] | None
    """For each of our rows the row that it has in the given model; None where they are the same."""
    bpe: byte_level.Bpe | Path | None
    """What splits texts into the symbols; None where nothing was found."""


def read_rows(folder: Path, size: int, camembert: bool) -> Rows:
    """Return the symbols of a Hugging Face directory.

    A byte-level BPE has vocab.json with merges.txt, or tokenizer.json. A sentencepiece model stands for rows
    ``<s> <pad> </s> <unk>``, its pieces from the fourth on, and ``<mask>``. CamemBERT has the rows of all its pieces
    after four others, and uses those of its pieces ``<s>`` and ``</s>``: the rows change places, so that special
    symbols are where fairseq has them.

    Args:
        folder: the directory.
        size: rows of the embedding.
        camembert: whether the rows are CamemBERT's.

    Raises:
        PyramidionError: no vocabulary is there, or it has another number of symbols.
    """
    model = next(vocabularies.sentencepiece_in([str(folder)]), None)
    if model is None:
        bpe = None if _is_unigram(folder / "tokenizer.json") else byte_level.find_byte_level(folder)
        if bpe is None:
            raise PyramidionError(f"{folder} has no vocabulary: neither sentencepiece.bpe.model nor vocab.json (of a "
                                  "sentencepiece model, tokenizer.json alone is not enough)")  # fmt: skip
        rows = byte_level.hugging_face_rows(folder)
        return Rows(byte_level.symbols_from_rows(rows, size, bpe), None, bpe)
    pieces = SentencepieceTokenizer.from_file(None, model).pieces
    first = [*dictionary_files.SPECIALS]
    if camembert:
        first += ["<unk>NOTUSED", "<s>NOTUSED", "</s>NOTUSED"]
    symbols = [*first, *(piece for piece in pieces[3:]), MASK]
    if pieces[:3] != ["<unk>", "<s>", "</s>"] or len(symbols) > size:
        raise PyramidionError(
            f"{model} has {len(pieces):,} pieces, which are not those of {size:,} rows of the embedding"
        )
    symbols[-1:] = [*(f"unused{row}" for row in range(len(symbols) - 1, size - 1)), MASK]
    if len(set(symbols)) < len(symbols) or any(symbol.split() != [symbol] for symbol in symbols):
        raise PyramidionError(
            f"the pieces of {model} cannot be a fairseq dictionary: some are there twice, or have spaces"
        )
    order = None
    if camembert:
        order = list(range(size))
        for ours, theirs in _CAMEMBERT.items():
            order[ours], order[theirs] = theirs, ours
    return Rows(symbols, order, Path(model))


def read_dictionary(path: Path, size: int) -> tuple[list[str], list[int] | None]:
    """Return the symbols of fairseq's dict.txt, and the order of rows as of :class:`Rows`.

    ``<mask>``, which fairseq's tasks add after reading, is added. Special symbols that CamemBERT's file has once more,
    with the flag ``#fairseq:overwrite``, are those that count.

    Args:
        path: the file.
        size: rows of the embedding.

    Raises:
        PyramidionError: a line is not "symbol count", or there are more or fewer symbols.
    """
    symbols, order = [*dictionary_files.SPECIALS, *dictionary_files.read_symbols(path, _OVERWRITE)], list(range(size))
    if MASK not in symbols:
        symbols.append(MASK)
    if len(symbols) != size:
        raise PyramidionError(
            f"{path} has {len(symbols):,} symbols, <mask> counted, the model's embedding {size:,} rows"
        )
    for row, symbol in enumerate(symbols[4:], start=4):
        if symbol in dictionary_files.SPECIALS:
            symbols[row] = f"{symbol}NOTUSED"
            first = dictionary_files.SPECIALS.index(symbol)
            if first in _CAMEMBERT:
                order[first], order[row] = row, first
    if len(set(symbols)) < len(symbols):
        raise PyramidionError(f"{path} has a symbol twice")
    return symbols, order if order != list(range(size)) else None


def _is_unigram(path: Path) -> bool:
    return path.is_file() and (read_json(path).get("model") or {}).get("type") == "Unigram"
