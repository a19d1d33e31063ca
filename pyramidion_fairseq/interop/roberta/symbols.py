"""Vocabularies of RoBERTa, CamemBERT and XLM-R: a symbol per row of the embedding, in fairseq's order."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from ... import vocabularies
from ...errors import PyramidionError
from ...text.tokenizers import SentencepieceTokenizer
from ...utils.files import read_json
from .. import byte_level, dictionary_files

logger = logging.getLogger(__name__)

MASK = "<mask>"
_OVERWRITE = "#fairseq:overwrite"
#: fairseq's rows of <s> and </s> -> CamemBERT's, which come after four unused rows.
_CAMEMBERT = {0: 5, 2: 6}


class Rows(NamedTuple):
    """Result of :func:`read_rows`."""

    symbols: list[str]
    """One symbol per row of the converted embedding."""
    order: list[int] | None
    """Row of the pretrained embedding for each row of the converted one; None if they are the same."""
    bpe: byte_level.Bpe | Path | None
    """A byte-level BPE, or the file of a sentencepiece model; None if nothing was found."""


def read_rows(folder: Path, size: int, camembert: bool) -> Rows:
    """Return the symbols of a Hugging Face directory.

    A byte-level BPE has vocab.json with merges.txt, or tokenizer.json. With a sentencepiece model, the rows are
    ``<s> <pad> </s> <unk>``, its pieces from the fourth on, and ``<mask>``; rows after these get unused symbols. In
    CamemBERT, the rows of all pieces, including ``<s>`` and ``</s>``, come after four unused ones. These rows are
    swapped, so that special symbols have fairseq's.

    Args:
        folder: the directory.
        size: number of rows of the embedding.
        camembert: whether the model is a CamemBERT.

    Raises:
        PyramidionError: there is no vocabulary, or its size differs.
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
            f"{model} has {len(pieces):,} pieces, which do not fit the {size:,} rows of the embedding"
        )
    more = [f"unused{row}" for row in range(len(symbols), size)]
    if more:
        logger.warning(f"the embedding of {folder} has {len(more):,} rows after {MASK}, which no text is encoded to")
    symbols += more
    if len(set(symbols)) < len(symbols) or any(symbol.split() != [symbol] for symbol in symbols):
        raise PyramidionError(
            f"the pieces of {model} cannot be a fairseq dictionary: some are repeated or contain spaces"
        )
    order = None
    if camembert:
        order = list(range(size))
        for ours, theirs in _CAMEMBERT.items():
            order[ours], order[theirs] = theirs, ours
    return Rows(symbols, order, Path(model))


def read_dictionary(path: Path, size: int) -> tuple[list[str], list[int] | None]:
    """Return the symbols of fairseq's dict.txt, and the order of rows as in :class:`Rows`.

    ``<mask>`` is added, as fairseq's tasks do. Special symbols that CamemBERT's file repeats with the flag
    ``#fairseq:overwrite`` replace the first ones.

    Args:
        path: the file.
        size: number of rows of the embedding.

    Raises:
        PyramidionError: a line is not "symbol count", or the number of symbols differs.
    """
    symbols, order = [*dictionary_files.SPECIALS, *dictionary_files.read_symbols(path, _OVERWRITE)], list(range(size))
    if MASK not in symbols:
        symbols.append(MASK)
    if len(symbols) != size:
        raise PyramidionError(
            f"{path} has {len(symbols):,} symbols, including <mask>, but the model's embedding {size:,} rows"
        )
    for row, symbol in enumerate(symbols[4:], start=4):
        if symbol in dictionary_files.SPECIALS:
            symbols[row] = f"{symbol}NOTUSED"
            first = dictionary_files.SPECIALS.index(symbol)
            if first in _CAMEMBERT:
                order[first], order[row] = row, first
    if len(set(symbols)) < len(symbols):
        raise PyramidionError(f"{path} has a repeated symbol")
    return symbols, order if order != list(range(size)) else None


def _is_unigram(path: Path) -> bool:
    return path.is_file() and (read_json(path).get("model") or {}).get("type") == "Unigram"
