"""Clean text in the same way as the training data; exported directories contain a copy of this file."""

from __future__ import annotations

import re

#: White space and invisible characters, for use inside a character class of a regular expression.
BLANK = "\\s\x00-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
_UNKNOWN = "\ufffd"
_BLANKS = re.compile(f"[{BLANK}]+")
_READABLE = re.compile(f"[^{BLANK}{_UNKNOWN}\u2581]")  # sentencepiece reads U+2581 as a space
_SENTENCE_TAGS = re.compile("</?S>")
_REMOVED = re.compile("[\x00\u00ad]")  # soft hyphens are invisible and occur inside words
_SURROGATES = re.compile("[\ud800-\udfff]")


def tidy(text: str) -> str:
    """Remove ``<S>`` tags, NULs and soft hyphens, and replace lone surrogates by U+FFFD.

    Returns:
        The text, or "" if no readable character is left.
    """
    text = _SURROGATES.sub(_UNKNOWN, _SENTENCE_TAGS.sub(" ", _REMOVED.sub("", text)))
    return text if _READABLE.search(text) else ""


def collapse_blanks(text: str) -> str:
    """Replace each run of white space and invisible characters by one space, and strip spaces at both ends."""
    return _BLANKS.sub(" ", text).strip(" ")
