"""Functions that read, check and write fairseq's dict.txt."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fairseq.data import Dictionary

from ..errors import PyramidionError
from ..utils.files import read_lines

#: Symbols that fairseq inserts before those of dict.txt, in this order.
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")


def check_dictionary(symbols: list[str]) -> None:
    """Raise PyramidionError if a fairseq dictionary cannot contain these symbols."""
    doubled = len(symbols) - len(set(symbols))
    if doubled or any(symbol.split() != [symbol] for symbol in symbols):
        raise PyramidionError(
            f"the vocabulary cannot be a fairseq dictionary: {doubled} symbols occur twice, or some have spaces"
        )


def read_dictionary(path: Path) -> list[str]:
    """Return the symbols of fairseq's dict.txt in order, after the four special ones.

    Raises:
        PyramidionError: see :func:`read_symbols`; or a symbol occurs twice.
    """
    symbols = [*SPECIALS, *read_symbols(path)]
    twice = next((symbol for symbol, count in Counter(symbols).items() if count > 1), None)
    if twice is not None:
        raise PyramidionError(f"{path} has the symbol {twice[:50]!r} twice, which fairseq cannot read")
    return symbols


def read_symbols(path: Path, flag: str = "") -> list[str]:
    """Return the symbols in fairseq's dict.txt, in order.

    Args:
        path: the file.
        flag: a flag that may follow the count, and is ignored.

    Raises:
        PyramidionError: a line is not "symbol count", or the file does not exist or is not a regular file.
    """
    if not path.exists():
        raise PyramidionError(f"{path} does not exist: give the path of the model's dict.txt with --dictionary")
    symbols = []
    for line in read_lines(path):
        if not line.strip():
            continue
        symbol, separator, count = line.rstrip().removesuffix(flag).rstrip().rpartition(" ")
        if not separator or not count.isdigit():
            raise PyramidionError(f"{path}: {line[:50]!r} is not of the form 'symbol count'")
        symbols.append(symbol)
    return symbols


def make_dictionary(symbols: list[str]) -> Dictionary:
    """Return a fairseq dictionary with these symbols."""
    dictionary = Dictionary()
    for symbol in symbols[len(SPECIALS) :]:
        dictionary.add_symbol(symbol)
    return dictionary


def write_dictionary(symbols: list[str], path: Path) -> None:
    """Write dict.txt without the special symbols, which fairseq inserts."""
    path.write_text("".join(f"{symbol} 1\n" for symbol in symbols[len(SPECIALS) :]), encoding="utf-8")
