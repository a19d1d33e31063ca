"""JSON records, with detection of duplicate fields."""

import collections
import json
from typing import Any

#: The value of a field that occurs more than once in a JSON object, so that its value is ambiguous.
TWICE = object()


def parse_record(text: str) -> Any:
    """Parse JSON; a field that occurs more than once in an object gets the value :data:`TWICE`.

    Raises:
        ValueError: the text is not JSON.
        RecursionError: the JSON is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_mark_twice)


def _mark_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose duplicate fields have the value :data:`TWICE`."""
    record = dict(pairs)
    if len(record) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        record.update((name, TWICE) for name, count in counts.items() if count > 1)
    return record
