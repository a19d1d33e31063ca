"""Find the words of a summary that its document does not contain."""

from __future__ import annotations

import unicodedata
from typing import Iterable, Sequence

#: The results of :func:`mark_unsupported`; the first one, the empty string, is for supported words.
SUPPORTED, NUMBER, CAPITALISED, WORD = KINDS = ("", "number", "capitalised", "word")
#: Variants of dashes and apostrophes -> plain ones.
_ALIKE = {ord(character): plain for plain, others in {"-": "‐‑‒–—−", "'": "’‘ʼ"}.items() for character in others}
_SENTENCE_ENDS = (".", "!", "?", "…")
_CLOSING = "\"'’”»)]"


def mark_unsupported(summary: Sequence[str], document: Iterable[str]) -> tuple[str, ...]:
    """Return for each word of a summary whether and how it is unsupported by the document.

    Words are compared by their :func:`normal_form`. Words that the document contains but that are used wrongly are
    not found.

    Args:
        summary: words of the summary.
        document: words of the document.

    Returns:
        One of :data:`KINDS` for each word. "": the document contains the word, or it has neither letters nor digits.
        "number": it has a digit. "capitalised": it has a capital letter that does not only mark the start of a
        sentence. "word": any other.
    """
    known = {normal_form(word) for word in set(document)} | {""}
    return tuple(
        SUPPORTED if normal_form(word) in known else _kind(word, _starts_sentence(summary, number))
        for number, word in enumerate(summary)
    )


def normal_form(word: str) -> str:
    """Return a word in Unicode's form NFKC and lower case, stripped of all but letters and digits at both ends."""
    return _strip(unicodedata.normalize("NFKC", word).casefold().translate(_ALIKE))


def _strip(word: str) -> str:
    inside = [number for number, character in enumerate(word) if character.isalnum()]
    return word[inside[0] : inside[-1] + 1] if inside else ""


def _kind(word: str, starts_sentence: bool) -> str:
    plain = unicodedata.normalize("NFKC", word)
    if any(character.isnumeric() for character in word + plain):
        return NUMBER
    letters = _strip(plain)
    capitals = any(character.isupper() for character in letters[1:]) if starts_sentence else letters[0].isupper()
    return CAPITALISED if letters[0].isupper() and capitals else WORD


def _starts_sentence(words: Sequence[str], number: int) -> bool:
    return number == 0 or words[number - 1].rstrip(_CLOSING).endswith(_SENTENCE_ENDS)
