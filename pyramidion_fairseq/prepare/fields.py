"""Find the fields of a record that contain the document and its summary, and return their values as plain text."""

import math
from typing import Iterable, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..text.documents import ID_FIELDS
from ..text.json_records import TWICE
from .errors import BadRecord, PrepareError
from .record_types import Parsed

DEFAULT_FIELDS: Sequence[Tuple[str, str]] = (
    ("article_text", "abstract_text"),
    ("article", "abstract"),
    ("document", "summary"),
    ("text", "summary"),
)
SHOWN_NAMES, SHOWN_CHARACTERS = 10, 40


class Fields(NamedTuple):
    """Names of the fields with documents and summaries."""

    document: str
    summary: str

    def parse(self, record: Mapping[str, object]) -> Parsed:
        """Return the texts and the identifier of a record, "" if it has none.

        Raises:
            BadRecord: a field is missing or is not text.
        """
        return Parsed(as_text(record, self.document), as_text(record, self.summary), identifier(record))


class LabelFields(NamedTuple):
    """Names of the fields of a corpus with labels; ``second`` is "" if the documents are not pairs."""

    document: str
    label: str
    second: str = ""

    def parse(self, record: Mapping[str, object]) -> Parsed:
        """Return document, label, identifier and second text of a record. The label may be a number.

        Raises:
            BadRecord: a field is missing or is not text, or there are several labels, or the label is NaN, which is
                how tables mark missing values.
        """
        label = record.get(self.label)
        if isinstance(label, float) and math.isnan(label):
            raise BadRecord(f"field {self.label} is NaN")
        if isinstance(label, (list, tuple)) and len(label) > 1:
            raise BadRecord(f"field {self.label} has several labels")
        text = str(label) if isinstance(label, (bool, int, float)) else as_text(record, self.label)
        second = as_text(record, self.second) if self.second else ""
        return Parsed(as_text(record, self.document), text, identifier(record), second=second)


#: The type of a reader's ``fields``.
AnyFields = Union[Fields, LabelFields]


def identifier(record: Mapping[str, object]) -> str:
    """Return a record's identifier, "" if it has none."""
    return next((str(record[name]) for name in ID_FIELDS if isinstance(record.get(name), (str, int))), "")


def as_text(record: Mapping[str, object], name: str) -> str:
    """Return a field as one string; a list of strings is joined by spaces. Raise BadRecord for anything else."""
    if name not in record:
        raise BadRecord(f"field {name} is missing")
    value = record[name]
    if value is None:
        raise BadRecord(f"field {name} is null")
    if value is TWICE:
        raise BadRecord(f"field {name} occurs more than once")
    if isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)):
        raise BadRecord(f"field {name} is neither text nor a list of texts but {type(value).__name__}")
    for item in value:
        if not isinstance(item, str):
            raise BadRecord(f"field {name} has {type(item).__name__} in its list")
    return " ".join(value)


def match_fields(names: Iterable[str], document: Optional[str], summary: Optional[str]) -> Optional[Fields]:
    """Return the first pair of default fields that ``names`` contains, with the given names in their place.

    Returns:
        Two different fields, or None if ``names`` contains no such pair.
    """
    present = set(names)
    for default_document, default_summary in DEFAULT_FIELDS:
        fields = Fields(document or default_document, summary or default_summary)
        if fields.document != fields.summary and {fields.document, fields.summary} <= present:
            return fields
    return None


def choose_fields(names: Iterable[str], document: Optional[str], summary: Optional[str], where: str) -> Fields:
    """Return :func:`match_fields`, or raise PrepareError if it finds none or a column name is used twice."""
    names = list(names)
    fields = match_fields(names, document, summary)
    if fields is None:
        wanted = "/".join((document or "document", summary or "summary"))
        raise PrepareError(
            f"{where}: no fields for {wanted}; it has: {quoted(names)}. Give their names with --document-field "
            "and --summary-field"
        )
    for name in (*fields, *ID_FIELDS):
        refuse_twice(names, name, where)
    return fields


def refuse_twice(names: Sequence[str], name: str, where: str) -> None:
    """Raise PrepareError if several columns of a table have this name."""
    if names.count(name) > 1:
        raise PrepareError(f"{where}: {names.count(name)} columns are called {name!r}: rename all but one of them")


def quoted(names: Sequence[str]) -> str:
    """Return names in quotation marks, which makes spaces visible; long names and long lists are cut."""
    most = SHOWN_CHARACTERS
    shown = [repr(name if len(name) <= most else name[:most] + "...") for name in names[:SHOWN_NAMES]]
    rest = [f"and {len(names) - SHOWN_NAMES} more"] if len(names) > SHOWN_NAMES else []
    return ", ".join(shown + rest) or "nothing"
