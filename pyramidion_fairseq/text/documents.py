"""Documents as the user provides them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from ..errors import PyramidionError
from .json_records import TWICE

#: Fields of a JSON record that may contain the document; the first one with text is used.
TEXT_FIELDS = ("article_text", "article", "document", "text")
TITLE_FIELDS = ("title", "article_id", "id")
ID_FIELDS = ("article_id", "id")
#: Fields of a JSON record that may contain a reference summary; the first one with text is used.
REFERENCE_FIELDS = ("abstract_text", "abstract", "summary", "target")
#: Maximum characters of a title or of a section's name, for display.
MOST_NAME = 300


@dataclass(frozen=True)
class Document:
    """The text of a document with its sentences, sections, title and id, as far as they are known."""

    sentences: tuple[str, ...]
    """The sentences in order; if :attr:`split` is set, texts of any length."""
    split: bool = True
    """Whether the texts must still be split into sentences."""
    sections: tuple[tuple[str, int], ...] = ()
    """(name, number of sentences) of consecutive sections; empty if the sections or sentences are not known."""
    title: str | None = None
    article_id: str | int | None = None
    """The document's id in the input."""
    reference: str | None = None
    """The reference summary."""

    @classmethod
    def from_text(cls, text: str, title: str | None = None) -> Document:
        """Create a document from plain text."""
        return cls((text,), title=title)

    @classmethod
    def from_record(cls, record: Mapping[str, Any], field: str | None = None) -> Document:
        """Create a document from a JSON object: an arXiv/PubMed record (Cohan et al. 2018), or any with a text field.

        Args:
            record: arXiv/PubMed: ``article_text`` (list of sentences), ``section_names`` and ``sections`` (lists of
                sentences). Others: one of :data:`TEXT_FIELDS`, a text or a list of texts. Optional fields are
                :data:`TITLE_FIELDS`, :data:`ID_FIELDS` and :data:`REFERENCE_FIELDS`. Titles and names of sections are
                truncated to :data:`MOST_NAME` characters, with a space for each unprintable character.
            field: name of the text field, if it is not one of :data:`TEXT_FIELDS`.

        Raises:
            PyramidionError: the field is missing, null, duplicated (:data:`TWICE`), or neither a text nor a list of
                texts. An empty text is a document without words.
        """
        if not isinstance(record, Mapping):
            raise PyramidionError(f"not a JSON object but {type(record).__name__}")
        names = (field,) if field else TEXT_FIELDS
        there = [name for name in names if record.get(name) is not None]
        name = next((name for name in there if not _is_blank(record[name])), there[0] if there else None)
        if name is None:
            null = [name for name in names if name in record]
            if null:
                raise PyramidionError(f"field {null[0]} is null")
            found = _shorten(", ".join(repr(str(key)) for key in record)) or "nothing"
            raise PyramidionError(f"no field {' or '.join(names)}; it has: {found}")
        value = record[name]
        if value is TWICE:
            raise PyramidionError(f"field {name} occurs more than once")
        named = (str(record[key]) for key in TITLE_FIELDS if isinstance(record.get(key), (str, int)))
        title = next((_shorten(name, MOST_NAME) for name in named), None)
        article_id = next((record[key] for key in ID_FIELDS if isinstance(record.get(key), (str, int))), None)
        known: dict[str, Any] = {"title": title, "article_id": article_id, "reference": _reference(record, name)}
        if isinstance(value, str):
            return cls((value,), **known)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise PyramidionError(f"field {name} is neither text nor a list of texts")
        return cls(tuple(value), False, _sections(record, value), **known)


def _reference(record: Mapping[str, Any], text_field: str) -> str | None:
    """Return the record's reference summary, or None; lists of texts are joined, and the text field is ignored."""
    for value in (record.get(name) for name in REFERENCE_FIELDS if name != text_field):
        texts: list[Any] = value if isinstance(value, list) else [value]
        if all(isinstance(text, str) for text in texts) and not _is_blank(texts):
            return " ".join(texts)
    return None


def _is_blank(value: Any) -> bool:
    """Return whether a field is a blank text, or a list of blank texts."""
    texts = value if isinstance(value, list) else [value]
    return all(isinstance(text, str) and not text.strip() for text in texts)


def _sections(record: Mapping[str, Any], sentences: list[str]) -> tuple[tuple[str, int], ...]:
    """Return the sections of an arXiv/PubMed record, or () if they do not consist of exactly its sentences."""
    names, sections = record.get("section_names"), record.get("sections")
    if not isinstance(names, list) or not isinstance(sections, list) or len(names) != len(sections):
        return ()
    if not all(isinstance(section, list) for section in sections):
        return ()
    if [sentence for section in sections for sentence in section] != sentences:
        return ()
    return tuple((_shorten(str(name), MOST_NAME), len(section)) for name, section in zip(names, sections))


def _shorten(text: str, limit: int = 200) -> str:
    cut = "".join(character if character.isprintable() else " " for character in text[:limit])
    return cut if len(text) <= limit else cut + " ..."
