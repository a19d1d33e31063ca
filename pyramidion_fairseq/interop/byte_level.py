"""Byte-level BPE vocabularies: fairseq's encoder.json and vocab.bpe; Hugging Face's vocab.json and merges.txt.

fairseq's BART maps GPT-2's token ids to other ids: the symbol "31414" in dict.txt is token 31414 of GPT-2, and its
line determines the row of the embedding. Hugging Face's vocab.json maps the token's text to that row. Since GPT-2's
ids follow from its merges, either format can be converted to the other.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import NamedTuple

from ..errors import PyramidionError
from ..utils.files import read_json, read_json_if_there, read_lines
from .dictionary_files import SPECIALS, check_dictionary

logger = logging.getLogger(__name__)

END_OF_TEXT = "<|endoftext|>"
_HEADER = "#version: 0.2"
#: Names of unused rows.
_FILLER = re.compile(r"(madeupword|unused)\d+$")


class Bpe(NamedTuple):
    """A byte-level BPE."""

    numbers: dict[str, int]
    """GPT-2's id of every token: encoder.json."""
    merges: list[str]
    """"left right", in the order of vocab.bpe."""


def byte_symbols() -> list[str]:
    """Return the 256 characters that represent bytes, in GPT-2's order of tokens.

    Printable bytes represent themselves.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]


def numbers_of(merges: list[str]) -> dict[str, int]:
    """Return GPT-2's encoder.json from its merges: the bytes, the result of each merge, and the end of text."""
    return {token: number for number, token in enumerate(dict.fromkeys([*_tokens(merges), END_OF_TEXT]))}


def tokens_of_texts(bpe: Bpe) -> set[str]:
    """Return all tokens that a text can have: the bytes, and the result of each merge."""
    return set(_tokens(bpe.merges))


def _tokens(merges: list[str]) -> list[str]:
    return [*byte_symbols(), *("".join(merge.split()) for merge in merges)]


def read_merges(path: Path) -> list[str]:
    """Return the merges of vocab.bpe or merges.txt.

    Raises:
        PyramidionError: a line is not "left right", there are no merges, or the path is not a regular file.
    """
    merges = [line for line in read_lines(path) if line and not line.startswith("#version")]
    wrong = next((line for line in merges if len(line.split()) != 2), None)
    if wrong is not None:
        raise PyramidionError(f"{path}: {wrong[:50]!r} is not of the form 'left right'")
    if not merges:
        raise PyramidionError(f"{path} is damaged: it contains no merges")
    return merges


def find_byte_level(folder: Path) -> Bpe | None:
    """Return the BPE in a folder, or None.

    It is read from encoder.json with vocab.bpe, from merges.txt, or from tokenizer.json.
    """
    if (folder / "encoder.json").is_file() and (folder / "vocab.bpe").is_file():
        return Bpe(read_json(folder / "encoder.json"), read_merges(folder / "vocab.bpe"))
    for name in ("merges.txt", "vocab.bpe"):
        if (folder / name).is_file():
            merges = read_merges(folder / name)
            return Bpe(numbers_of(merges), merges)
    if (folder / "tokenizer.json").is_file():
        merges = read_json(folder / "tokenizer.json")["model"].get("merges", [])
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
        return Bpe(numbers_of(merges), merges)
    return None


def write_bpe(bpe: Bpe, folder: Path) -> None:
    """Write encoder.json and vocab.bpe, as fairseq's ``--bpe gpt2`` reads them."""
    (folder / "encoder.json").write_text(json.dumps(bpe.numbers), encoding="utf-8")
    write_merges(bpe, folder / "vocab.bpe")


def write_merges(bpe: Bpe, path: Path) -> None:
    """Write vocab.bpe or merges.txt."""
    path.write_text("\n".join([_HEADER, *bpe.merges, ""]), encoding="utf-8")


def hugging_face_rows(folder: Path) -> dict[str, int]:
    """Return the row of the embedding of each token in vocab.json or tokenizer.json, including added tokens.

    A warning is logged if the tokenizer inserts a space before each text.

    Raises:
        PyramidionError: neither file exists, or tokenizer.json is not that of a BPE.
    """
    if read_json_if_there(folder / "tokenizer_config.json").get("add_prefix_space"):
        logger.warning(
            f"the tokenizer of {folder} inserts a space before each text (add_prefix_space), but fairseq's does not: "
            "the first word of a document gets other tokens than in the model's training"
        )
    if (folder / "vocab.json").is_file():
        rows = dict(read_json(folder / "vocab.json"))
        if (folder / "added_tokens.json").is_file():
            rows.update(read_json(folder / "added_tokens.json"))
        return rows
    if (folder / "tokenizer.json").is_file():
        tokenizer = read_json(folder / "tokenizer.json")
        added = {entry["content"]: entry["id"] for entry in tokenizer.get("added_tokens", [])}
        vocabulary = tokenizer["model"]["vocab"]
        if not isinstance(vocabulary, dict):
            raise PyramidionError(f"the tokenizer.json of {folder} is not that of a byte-level BPE")
        return {**vocabulary, **added}
    raise PyramidionError(f"{folder} has no vocabulary: neither vocab.json nor tokenizer.json")


def symbols_from_rows(rows: dict[str, int], size: int, bpe: Bpe | None) -> list[str]:
    """Return fairseq's symbols in the order of the embedding's rows, including the four special ones.

    The symbol of a token of GPT-2 is its id; that of another token is its text. A row without a token gets a generated
    name. ``<mask>`` may have no row, because checkpoints fine-tuned with fairseq lack it, and is then omitted.

    Raises:
        PyramidionError: the special symbols have other rows than in fairseq, two rows have the same symbol, two tokens
            have the same row, or a token other than ``<mask>`` has no row.
    """
    tokens = {row: token for token, row in rows.items()}
    if len(tokens) < len(rows):
        token, row = next((token, row) for token, row in rows.items() if tokens[row] != token)
        raise PyramidionError(f"the tokenizer is damaged: {token!r:.50} and {tokens[row]!r:.50} both have row {row}")
    if {token for row, token in tokens.items() if row >= size} - {"<mask>"}:
        raise PyramidionError(
            f"the tokenizer does not fit: it has {len(rows):,} symbols, but the model's embedding {size:,} rows"
        )
    if [tokens.get(row) for row in range(4)] != list(SPECIALS):
        raise PyramidionError(f"rows 0 to 3 of the embedding must be {' '.join(SPECIALS)}, as in BART")
    symbols = list(SPECIALS)
    for row in range(4, size):
        token = tokens.get(row, f"unused{row}")
        symbols.append(str(bpe.numbers[token]) if bpe is not None and token in bpe.numbers else token)
    check_dictionary(symbols)
    _warn_of_added(list(tokens.values()), bpe)
    return symbols


def _warn_of_added(tokens: list[str], bpe: Bpe | None) -> None:
    """Warn of tokens that were added to the tokenizer, which fairseq's BPE never produces."""
    known = {*SPECIALS, "<mask>", *(bpe.numbers if bpe is not None else tokens)}
    added = [token for token in tokens if token not in known and not _FILLER.match(token)]
    if added:
        tokens_were = "1 token was" if len(added) == 1 else f"{len(added):,} tokens were"
        first = ", ".join(added[:3]) + (", ..." if len(added) > 3 else "")
        logger.warning(
            f"{tokens_were} added to the tokenizer ({first}), but fairseq's never produces them: texts that contain "
            "one get other tokens than in the model's training"
        )


def rows_from_symbols(symbols: list[str], bpe: Bpe) -> dict[str, int]:
    """Return the inverse of :func:`symbols_from_rows`: Hugging Face's vocab.json."""
    tokens = {str(number): token for token, number in bpe.numbers.items()}
    return {tokens.get(symbol, symbol): row for row, symbol in enumerate(symbols)}
