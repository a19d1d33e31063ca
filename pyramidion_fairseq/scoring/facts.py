"""Extract the numbers and capitalised names of a text, to compare them with those of another text."""

from __future__ import annotations

import re
import unicodedata
from typing import Iterable

from .unicode_words import cased_words

#: Changes whenever the extraction changes; part of the signature of ``--more``.
VERSION = 2

# A name that begins with a letter, with separators after digits ("p53", "H1,000", "p5.3"), or else a number: 12,
# 12,000, 0.05, 1.2.3, or .05 after a space, bracket or sign. Superscripts and fractions (10², ½) count as letters.
_NAME_OR_NUMBER = re.compile(
    r"[^\W\d_][^\W_]*(?:(?<=\d)(?:\.\d+|,\d{3}(?!\d)))*"
    r"|((?<![^\s(\[<>=≤≥~≈±+−–,;-])\.\d+|(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)*)"
)
# Full-width and mathematical digits and marks, which look like those of ASCII.
_WIDE = {code: unicodedata.normalize("NFKC", chr(code)) for code in (*range(0xFF01, 0xFF5F), *range(0x1D7CE, 0x1D800))}
_ASCII_WORD = re.compile("[A-Za-z0-9]+")


def numbers(text: str) -> list[str]:
    """Return the numbers written in digits, in order, without thousands separators.

    A number is not preceded by a letter or digit: "10" in "10mg" and "19" in "covid-19" are numbers, but "53" in
    "p53" is not. Numbers are compared as written: "0.5" and "0.50" are different; but ".5" is returned as "0.5".
    Superscripts, subscripts and fractions of one character are no digits: "10²" is 10.
    """
    text = text if text.isascii() else unicodedata.normalize("NFC", text).translate(_WIDE)
    found = (match.group(1) for match in _NAME_OR_NUMBER.finditer(text))
    return [("0" + number if number[0] == "." else number.replace(",", "")) for number in found if number]


def capitalised_names(sentences: Iterable[str], any_script: bool = False) -> list[str]:
    """Return the capitalised words of at least two characters, except the first word of each sentence.

    Args:
        sentences: sentences of a text, with their original case.
        any_script: whether to find words of any script instead of a-z and 0-9.
    """
    names = []
    for sentence in sentences:
        words = cased_words(sentence) if any_script else _ASCII_WORD.findall(sentence)
        names += [word for word in words[1:] if len(word) > 1 and word[0].isupper()]
    return names
