"""Records in JSON, as people's files have them."""

import collections
import json
from typing import Any

#: The value of a field that a JSON object has twice: which one is meant cannot be told.
TWICE = object()


def parse_record(text: str) -> Any:
    """Return what a text in JSON holds; what an object has twice is :data:`TWICE`.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_mark_twice)


def _mark_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, with the fields marked that are there twice."""
    record = dict(pairs)
    if len(record) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        record.update((name, TWICE) for name, count in counts.items() if count > 1)
    return record
