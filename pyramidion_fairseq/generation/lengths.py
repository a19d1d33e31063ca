"""Lengths of summaries that contradict each other, told in one line."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Mapping

from ..errors import PyramidionError


def check_lengths(options: Any, model_length: int | None) -> None:
    """Refuse a shortest summary above the longest one; fairseq would find out in the first batch.

    Args:
        options: of generation, as of fairseq: ``min_len``, ``max_len_a``, ``max_len_b``, ``match_source_len``,
            ``no_repeat_ngram_size``.
        model_length: tokens that the model writes, ``</s>`` counted; None if there is no limit.

    Raises:
        PyramidionError: says both lengths, or which one is negative; fairseq takes that for 0.
    """
    for name in ("min_len", "no_repeat_ngram_size"):
        value = getattr(options, name, None) or 0
        if value < 0:
            raise PyramidionError(f"{name} must be at least 0, got {value}")
    shortest = getattr(options, "min_len", None) or 1
    limits = [] if model_length is None else [(model_length - 1, f"the model writes {model_length}, </s> counted")]
    if not getattr(options, "max_len_a", 0) and not getattr(options, "match_source_len", False):
        longest = int(getattr(options, "max_len_b", 200))
        limits.append((longest, f"max_len_b is {longest}"))
    for limit, reason in limits:
        if shortest > limit:
            raise PyramidionError(
                f"min_len {shortest} is above the longest summary, {limit} tokens ({reason}): lower it (--min-len)"
            )


def fit_lengths(chosen: dict[str, Any], given: Mapping[str, Any], model_length: int | None) -> None:
    """Lower the shortest length to the longest one, in place, unless it was given.

    Args:
        chosen: options of generation, with ``beam``, ``min_len`` and ``max_len_b``.
        given: those that the user chose.
        model_length: tokens that the model writes, ``</s>`` counted; None: any number.

    Raises:
        PyramidionError: there would be no beam, or no summary.
    """
    longest = int(chosen["max_len_b"])
    if model_length is not None:
        longest = min(longest, model_length - 1)
    if longest < 1 or chosen["beam"] < 1:
        raise PyramidionError(f"beam and max_len_b must be at least 1, got {chosen['beam']}, {chosen['max_len_b']}")
    if "min_len" not in given:
        chosen["min_len"] = min(chosen["min_len"], longest)


@contextlib.contextmanager
def one_line_about_lengths() -> Iterator[None]:
    """Say fairseq's own refusal in one line, where the longest length depends on the documents'.

    Raises:
        PyramidionError: in place of its AssertionError.
    """
    try:
        yield
    except AssertionError as error:
        if "min_len cannot be larger than max_len" not in str(error):
            raise
        raise PyramidionError(
            "min_len is above the longest summary of a document, max_len_a times its length plus max_len_b: lower "
            "--min-len or raise --max-len-b"
        ) from None
