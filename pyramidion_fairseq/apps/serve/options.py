"""Generation options that a request may choose: the length of the summary and the beam size."""

from __future__ import annotations

import re
from typing import Any, Mapping

from .limits import Limits, Refusal

#: fairseq's names of the options, and those in messages.
NAMES = {"min_len": "the minimum length", "max_len_b": "the maximum length", "beam": "the beam size"}


def read_options(fields: Mapping[str, Any], limits: Limits) -> dict[str, int]:
    """Return the options among a request's fields; for missing, null or empty ones the server's apply.

    Args:
        fields: integers, or texts of integers, under the keys of :data:`NAMES`; other keys are ignored.
        limits: the maximum values.

    Raises:
        Refusal: a value is not an integer or out of range, or the minimum length is above the maximum.
    """
    most = {"min_len": limits.summary_tokens, "max_len_b": limits.summary_tokens, "beam": limits.beam}
    chosen = {name: _whole_number(name, fields[name], most[name]) for name in NAMES if _is_given(fields.get(name))}
    if chosen.get("min_len", 0) > chosen.get("max_len_b", limits.summary_tokens):
        raise Refusal(422, "bad-option", "The minimum length is above the maximum length: change one of them.")
    return chosen


def _is_given(value: Any) -> bool:
    return value is not None and value != ""


def _whole_number(name: str, value: Any, most: int) -> int:
    is_number = isinstance(value, (int, str)) and not isinstance(value, bool)
    text = str(value).strip() if is_number else ""
    if not re.fullmatch("[0-9]{1,6}", text) or not 1 <= int(text) <= most:
        raise Refusal(422, "bad-option", f"{NAMES[name].capitalize()} must be an integer from 1 to {most:,}.")
    return int(text)
