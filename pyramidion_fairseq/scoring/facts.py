"""Numbers and capitalised names of a text, to be looked for in another."""

from __future__ import annotations

import re
import unicodedata
from typing import Iterable

from .unicode_words import cased_words

#: Changes whenever other numbers or names are found; part of the signature of ``--more``.
VERSION = 1

# Digits that follow no letter ("p53" is a name), with groups of thousands and decimals: 12, 12,000, 0.05, 1.2.3.
_NUMBER = re.compile(r"(?<![^\W_])(?<!\d\.)(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)*")
_ASCII_WORD = re.compile("[A-Za-z0-9]+")


def numbers(text: str) -> list[str]:
    """Return the numbers that are written in digits, in order, without the commas between thousands.

    A number begins where no letter or digit stands before it: "10" of "10mg" and "19" of "covid-19" are numbers, "53"
    of "p53" is none. Nothing is rounded: "0.5" and "0.50" are two numbers.
    """
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return [match.group().replace(",", "") for match in _NUMBER.finditer(text)]


def capitalised_names(sentences: Iterable[str], any_script: bool = False) -> list[str]:
    """Return the words of two letters or more that begin with a capital, but for the first word of each sentence.

    Args:
        sentences: of a text, as written.
        any_script: words of any script; else of a to z and 0 to 9.
    """
    names = []
    for sentence in sentences:
        words = cased_words(sentence) if any_script else _ASCII_WORD.findall(sentence)
        names += [word for word in words[1:] if len(word) > 1 and word[0].isupper()]
    return names
