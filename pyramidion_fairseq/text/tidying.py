"""Text cleaned as ``preprocess/`` cleans what models are trained on; exported directories carry this file."""

from __future__ import annotations

import re

#: White space and what cannot be seen, as a part of a regular expression's class of characters.
BLANK = "\\s\x00-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
_UNKNOWN = "\ufffd"
_BLANKS = re.compile(f"[{BLANK}]+")
_READABLE = re.compile(f"[^{BLANK}{_UNKNOWN}\u2581]")  # sentencepiece reads the last, its mark of a blank, as a blank
_SENTENCE_TAGS = re.compile("</?S>")
_REMOVED = re.compile("[\x00\u00ad]")  # soft hyphens are invisible and sit inside words
_SURROGATES = re.compile("[\ud800-\udfff]")


def tidy(text: str) -> str:
    """Return the text without ``<S>`` tags, NULs and soft hyphens; lone surrogates as U+FFFD.

    Empty where nothing readable is left.
    """
    text = _SURROGATES.sub(_UNKNOWN, _SENTENCE_TAGS.sub(" ", _REMOVED.sub("", text)))
    return text if _READABLE.search(text) else ""


def collapse_blanks(text: str) -> str:
    """Return the text with a single space for each run of blanks, and none at its ends."""
    return _BLANKS.sub(" ", text).strip(" ")
