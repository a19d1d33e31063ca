"""Extract the numbers and capitalised names of a text, to compare them with those of another text."""

from __future__ import annotations

import re
import unicodedata
from typing import Iterable

from .unicode_words import cased_words

#: Changes whenever the extraction changes; part of the signature of ``--more``.
VERSION = 1

# Digits that do not follow a letter ("p53" is a name), with separators and decimals: 12, 12,000, 0.05, 1.2.3.
_NUMBER = re.compile(r"(?<![^\W_])(?<!\d\.)(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)*")
_ASCII_WORD = re.compile("[A-Za-z0-9]+")


def numbers(text: str) -> list[str]:
    """Return the numbers written in digits, in order, without thousands separators.

    A number is not preceded by a letter or digit: "10" in "10mg" and "19" in "covid-19" are numbers, but "53" in
    "p53" is not. Numbers are compared as written: "0.5" and "0.50" are different.
    """
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return [match.group().replace(",", "") for match in _NUMBER.finditer(text)]


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
