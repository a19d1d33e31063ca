"""Words of text in any script, for ROUGE: ``--tokenizer unicode``."""

from __future__ import annotations

import logging
import unicodedata
from typing import Any, Iterable

import regex

logger = logging.getLogger(__name__)

#: Changes whenever :func:`unicode_words` finds other words, or sentences of other scripts end elsewhere; part of a
#: score's signature.
VERSION = 1
#: Of all letters; English papers have fewer of Greek.
MANY_LOST = 0.01

# Scripts that are written without spaces between words: Chinese, Japanese, and those for which Unicode asks for a
# dictionary to find words (Thai, Lao, Khmer, Burmese and their relatives).
_SPACELESS = (
    r"(?:(?=\p{Line_Break=Complex_Context})[\p{L}\p{N}]|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}ー])"
)
# A character of those scripts with its marks; or letters and digits of others, each with its marks.
_WORD = regex.compile(rf"{_SPACELESS}\p{{M}}*|(?:(?!{_SPACELESS})[\p{{L}}\p{{N}}]\p{{M}}*)+")
# As blanks part them, but for the scripts without spaces.
_BLANK_WORD = regex.compile(rf"{_SPACELESS}\p{{M}}*|(?:(?!{_SPACELESS})\S)+")
_ASCII_LETTER = regex.compile("[A-Za-z]")
_ASCII_WORD = regex.compile("[a-z0-9]+")
_INVISIBLE = regex.compile("[\u00ad\u200c\u200d\u2060\ufeff]")  # inside words: soft hyphens, joiners
_LATIN_WORD = regex.compile("[a-z0-9]{4,}")  # what rouge-score stems


def unicode_words(text: str, stemmer: Any = None) -> list[str]:
    """Return words of a text, in lower case.

    Of scripts with spaces between words: letters and digits, with their combining marks (vowel signs of Hindi,
    accents). Of Chinese, Japanese, Thai, Lao, Khmer, Burmese: each character, with its marks, is a word. Text of a to
    z and 0 to 9 has the words that rouge-score finds.

    Args:
        text: is brought to Unicode's form NFKC, so that letters with accents are alike however they are written.
        stemmer: for words of a to z, as of rouge-score; others are not cut.
    """
    if text.isascii():
        words = ascii_words(text)
    else:
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
        words = _WORD.findall(unicodedata.normalize("NFKC", text.casefold()))
    if stemmer is None:
        return words
    return [stemmer.stem(word) if _LATIN_WORD.fullmatch(word) else word for word in words]


def cased_words(text: str) -> list[str]:
    """Return the words of a text as :func:`unicode_words` parts them, with their capitals."""
    return _WORD.findall(unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)))


def ascii_words(text: str) -> list[str]:
    """Return the words that rouge-score finds: of a to z and 0 to 9, in lower case, not cut to their stems."""
    return _ASCII_WORD.findall(text.lower())


def word_ends(text: str) -> list[int]:
    """Return where each word ends, as blanks part them; of scripts without spaces, each character."""
    return [match.end() for match in _BLANK_WORD.finditer(text)]


def warn_of_no_words(texts: Iterable[str]) -> None:
    """Warn of texts with marks or symbols alone (emoji, dashes), which have no word in any script and score 0."""
    empty = count = 0
    for count, text in enumerate(texts, start=1):  # noqa: B007 - the last one is how many there are
        empty += bool(text.strip()) and not unicode_words(text)
    if empty:
        logger.warning(
            f"{empty:,} of {count:,} texts have no words, but marks or symbols alone (such as emoji), and score 0"
        )


def warn_of_lost_letters(texts: Iterable[str], tokenizer: str) -> None:
    """Warn where texts have letters, but no word for a tokenizer that knows a to z and 0 to 9 alone, or lose many.

    Args:
        texts: those that are scored.
        tokenizer: its name, for the message.
    """
    count = empty = letters = lost = 0
    for text in texts:
        count += 1
        if text.isascii():
            letters += len(_ASCII_LETTER.findall(text))
            continue
        known = len(_ASCII_LETTER.findall(text))
        unknown = sum(map(str.isalpha, text)) - known
        letters, lost = letters + known + unknown, lost + unknown
        empty += bool(unknown) and not _ASCII_WORD.search(text.lower())
    use = "the tokenizer unicode reads them (--tokenizer, --eval-rouge-tokenizer, --rouge-tokenizer)"
    if empty:
        logger.warning(
            f"{empty:,} of {count:,} texts have letters but no word for the tokenizer {tokenizer}, which knows a to z "
            f"and 0 to 9, and score 0: {use}"
        )
    elif lost > MANY_LOST * letters:
        logger.warning(
            f"{lost / letters:.1%} of the letters are none of a to z, so blanks for the tokenizer {tokenizer}: {use}"
        )
