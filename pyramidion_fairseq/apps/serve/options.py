"""Options of generation that a request may choose: the length of the summary and the width of the beam."""

from __future__ import annotations

import re
from typing import Any, Mapping

from .limits import Limits, Refusal

#: fairseq's names, with those that people read.
NAMES = {"min_len": "the shortest length", "max_len_b": "the longest length", "beam": "the beam"}


def read_options(fields: Mapping[str, Any], limits: Limits) -> dict[str, int]:
    """Return the options among a request's fields; those that are missing, null or empty are the server's.

    Args:
        fields: whole numbers, or texts of them, under the keys of :data:`NAMES`; others are left alone.
        limits: the largest values.

    Raises:
        Refusal: no whole number, a number out of range, or a shortest length above the longest.
    """
    most = {"min_len": limits.summary_tokens, "max_len_b": limits.summary_tokens, "beam": limits.beam}
    chosen = {name: _whole_number(name, fields[name], most[name]) for name in NAMES if _is_given(fields.get(name))}
    if chosen.get("min_len", 0) > chosen.get("max_len_b", limits.summary_tokens):
        raise Refusal(422, "bad-option", "The shortest length is above the longest: change one of them.")
    return chosen


def _is_given(value: Any) -> bool:
    return value is not None and value != ""


def _whole_number(name: str, value: Any, most: int) -> int:
    is_number = isinstance(value, (int, str)) and not isinstance(value, bool)
    text = str(value).strip() if is_number else ""
    if not re.fullmatch("[0-9]{1,6}", text) or not 1 <= int(text) <= most:
        raise Refusal(422, "bad-option", f"Give {NAMES[name]} as a whole number from 1 to {most:,}.")
    return int(text)
