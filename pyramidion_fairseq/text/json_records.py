"""JSON records, with detection of duplicate fields."""

import collections
import json
from typing import Any

#: The value of a field that occurs more than once in a JSON object, so that its value is ambiguous.
TWICE = object()


def parse_record(text: str) -> Any:
    """Parse JSON; a field that occurs more than once in an object gets the value :data:`TWICE`.

    Raises:
        ValueError: the text is not JSON, or has an integer with too many digits.
        RecursionError: the JSON is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_mark_twice)


def describe(error: Exception) -> str:
    """Return what is wrong with a text for which :func:`parse_record` raised an error."""
    if isinstance(error, (json.JSONDecodeError, RecursionError)):
        return "is not JSON"
    return "has an integer with more digits than Python reads"


def _mark_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose duplicate fields have the value :data:`TWICE`."""
    record = dict(pairs)
    if len(record) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        record.update((name, TWICE) for name, count in counts.items() if count > 1)
    return record
