"""Words of a summary that its document does not contain: what the model wrote on its own account."""

from __future__ import annotations

import unicodedata
from typing import Iterable, Sequence

#: What :func:`mark_unsupported` says of a word; of a supported one it is the first, the empty string.
SUPPORTED, NUMBER, CAPITALISED, WORD = KINDS = ("", "number", "capitalised", "word")
#: Dashes and apostrophes that are written in several ways.
_ALIKE = {ord(character): plain for plain, others in {"-": "‐‑‒–—−", "'": "’‘ʼ"}.items() for character in others}
_SENTENCE_ENDS = (".", "!", "?", "…")
_CLOSING = "\"'’”»)]"


def mark_unsupported(summary: Sequence[str], document: Iterable[str]) -> tuple[str, ...]:
    """Return what kind of unsupported word each word of a summary is.

    Words are compared by their :func:`normal_form`. This finds words that are not there; it does not find a word that
    is there and used wrongly.

    Args:
        summary: its words.
        document: its words.

    Returns:
        One of :data:`KINDS` a word. "": the document has it, or it has neither letters nor digits. "number": it has a
        digit. "capitalised": it begins with a capital letter, but not only because a sentence does. "word": any other.
    """
    known = {normal_form(word) for word in set(document)} | {""}
    return tuple(
        SUPPORTED if normal_form(word) in known else _kind(word, _starts_sentence(summary, number))
        for number, word in enumerate(summary)
    )


def normal_form(word: str) -> str:
    """Return a word in Unicode's form NFKC without upper case, and without what is no letter or digit at its ends."""
    return _strip(unicodedata.normalize("NFKC", word).casefold().translate(_ALIKE))


def _strip(word: str) -> str:
    inside = [number for number, character in enumerate(word) if character.isalnum()]
    return word[inside[0] : inside[-1] + 1] if inside else ""


def _kind(word: str, starts_sentence: bool) -> str:
    if any(character.isnumeric() for character in word):
        return NUMBER
    letters = _strip(word)
    capitals = any(character.isupper() for character in letters[1:]) if starts_sentence else letters[0].isupper()
    return CAPITALISED if letters[0].isupper() and capitals else WORD


def _starts_sentence(words: Sequence[str], number: int) -> bool:
    return number == 0 or words[number - 1].rstrip(_CLOSING).endswith(_SENTENCE_ENDS)
