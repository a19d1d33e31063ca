"""Split documents into words and sentences, after cleaning them in the same way as the training data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator, NamedTuple

from .documents import Document
from .tidying import BLANK, tidy

_IDEOGRAPH = "\u2e80-\u2fff\u3001-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
#: Each character of a script without spaces is a word. Longer words are cut, so that no word has megabytes.
_WORD = re.compile(f"[{_IDEOGRAPH}]|[^{BLANK}{_IDEOGRAPH}]{{1,64}}")

_SENTENCE_END = re.compile("[.!?\u2026]+[\"'\u2019\u201d)\\]\u00bb]*$")
_WIDE_ENDS = "\u3002\uff01\uff1f"
_ABBREVIATION = re.compile(
    r"^[(\[\"']*(?:[^\W\d_]|e\.g|i\.e|et|al|cf|vs|fig|figs|eq|eqs|dr|mr|mrs|ms|prof|no|st)\.$", re.I
)


@dataclass(frozen=True)
class Section:
    """A named section of a document: the words [``start``, ``end``)."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class DocumentWords:
    """A document in words, with its sentences and sections."""

    words: tuple[str, ...]
    space_after: tuple[bool, ...]
    """Whether white space follows each word."""
    sentences: tuple[tuple[int, int], ...] = ()
    """The words [start, end) of each sentence."""
    sections: tuple[Section, ...] = ()


class Words(NamedTuple):
    """The first words of a document, and the number of the remaining ones."""

    document: DocumentWords
    left_out: int
    """Number of words that follow in the document."""


def find_words(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (word, start, end) of each word, in characters. Everything but white space belongs to a word."""
    for match in _WORD.finditer(text):
        yield match.group(), match.start(), match.end()


def split_document(document: Document, limit: int) -> Words:
    """Return the first ``limit`` words of a document with their sentences and sections."""
    words: list[str] = []
    space_after: list[bool] = []
    ends: list[int] = []
    sentences: list[tuple[int, int]] = []
    left_out = 0
    for text in map(tidy, document.sentences):
        start, last_end = len(words), None
        for word, begin, end in find_words(text):
            if len(words) == limit:
                left_out += 1
                continue
            if last_end is not None:
                space_after[-1] = begin > last_end
                if document.split and _ends_sentence(words[-1], word, text[last_end:begin]):
                    sentences.append((start, len(words)))
                    start = len(words)
            elif words:
                space_after[-1] = True
            words.append(word)
            space_after.append(False)
            last_end = end
        if len(words) > start:
            sentences.append((start, len(words)))
        ends.append(len(words))
    return Words(
        DocumentWords(tuple(words), tuple(space_after), tuple(sentences), _sections(document, ends)), left_out
    )


def _ends_sentence(word: str, following: str, between: str) -> bool:
    """Return whether a sentence ends after ``word``; ``between`` is the white space before ``following``."""
    if between.count("\n") > 1 or word[-1] in _WIDE_ENDS:
        return True
    if not between or following[0] in ".!?,;:)]":
        return False
    return bool(_SENTENCE_END.search(word)) and not _ABBREVIATION.match(word)


def _sections(document: Document, ends: list[int]) -> tuple[Section, ...]:
    """Return the sections in words; ``ends`` is the number of words up to the end of each sentence."""
    sections, first, start = [], 0, 0
    for name, count in document.sections:
        first += count
        end = ends[first - 1] if first else 0
        if end > start:
            sections.append(Section(" ".join(tidy(name).split()), start, end))
        start = end
    return tuple(sections)
