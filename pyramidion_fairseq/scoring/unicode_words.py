"""Split text of any script into words, for ROUGE with ``--tokenizer unicode``."""

from __future__ import annotations

import logging
import unicodedata
from typing import Any, Iterable

import regex

logger = logging.getLogger(__name__)

#: Changes whenever :func:`unicode_words` or the splitting of sentences of other scripts changes; part of a score's
#: signature.
VERSION = 1
#: Share of unknown letters above which a warning is logged; English papers have fewer Greek letters.
MANY_LOST = 0.01

# Scripts without spaces between words: Chinese, Japanese, and those for which Unicode requires a dictionary to find
# words (Thai, Lao, Khmer, Burmese and similar ones).
_SPACELESS = (
    r"(?:(?=\p{Line_Break=Complex_Context})[\p{L}\p{N}]|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}ー])"
)
# A character of these scripts with its combining marks, or letters and digits of others, each with its marks.
_WORD = regex.compile(rf"{_SPACELESS}\p{{M}}*|(?:(?!{_SPACELESS})[\p{{L}}\p{{N}}]\p{{M}}*)+")
# Words between white space; single characters in scripts without spaces.
_BLANK_WORD = regex.compile(rf"{_SPACELESS}\p{{M}}*|(?:(?!{_SPACELESS})\S)+")
_ASCII_LETTER = regex.compile("[A-Za-z]")
_ASCII_WORD = regex.compile("[a-z0-9]+")
_INVISIBLE = regex.compile("[\u00ad\u200c\u200d\u2060\ufeff]")  # inside words: soft hyphens, joiners
_LATIN_WORD = regex.compile("[a-z0-9]{4,}")  # what rouge-score stems


def unicode_words(text: str, stemmer: Any = None) -> list[str]:
    """Split a text into lower-case words.

    In scripts with spaces, words are letters and digits with their combining marks (accents, vowel signs of Hindi). In
    Chinese, Japanese, Thai, Lao, Khmer and Burmese, each character with its marks is a word. ASCII text has the words
    of rouge-score.

    Args:
        text: the text; it is normalised to NFKC, so that composed and decomposed accents are equal.
        stemmer: stemmer of rouge-score, for words of a-z and 0-9 only.
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
    """Return the words of :func:`unicode_words` with their original case."""
    return _WORD.findall(unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)))


def ascii_words(text: str) -> list[str]:
    """Return the words of rouge-score without stemming: runs of a-z and 0-9, in lower case."""
    return _ASCII_WORD.findall(text.lower())


def word_ends(text: str) -> list[int]:
    """Return the end of each word, split at white space; in scripts without spaces, of each character."""
    return [match.end() for match in _BLANK_WORD.finditer(text)]


def warn_of_no_words(texts: Iterable[str]) -> None:
    """Warn of texts that consist of symbols (emoji, dashes), which have no words in any script and score 0."""
    empty = count = 0
    for count, text in enumerate(texts, start=1):  # noqa: B007 - the last value is used
        empty += bool(text.strip()) and not unicode_words(text)
    if empty:
        logger.warning(
            f"{empty:,} of {count:,} texts have no words, only punctuation or symbols (such as emoji), and score 0"
        )


def warn_of_lost_letters(texts: Iterable[str], tokenizer: str) -> None:
    """Warn if texts have letters but no words for a tokenizer of a-z and 0-9, or if many letters are lost.

    Args:
        texts: the texts that are scored.
        tokenizer: name of the tokenizer, for the message.
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
    use = "use the tokenizer unicode (--tokenizer, --eval-rouge-tokenizer, --rouge-tokenizer)"
    if empty:
        logger.warning(
            f"{empty:,} of {count:,} texts score 0, as they have letters but no words for the tokenizer {tokenizer}, "
            f"which only knows a-z and 0-9: {use}"
        )
    elif lost > MANY_LOST * letters:
        logger.warning(
            f"{lost / letters:.1%} of the letters are not a-z, so spaces for the tokenizer {tokenizer}: {use}"
        )
