"""One-line errors for summary lengths that contradict each other."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Mapping

from ..errors import PyramidionError


def check_lengths(options: Any, model_length: int | None) -> None:
    """Raise an error if the minimum summary length exceeds the maximum, before fairseq does so in the first batch.

    Args:
        options: fairseq's generation options: ``min_len``, ``max_len_a``, ``max_len_b``, ``match_source_len``,
            ``no_repeat_ngram_size``.
        model_length: maximum number of tokens of the model's summaries, including ``</s>``; None for no limit.

    Raises:
        PyramidionError: names both lengths, or the negative option, which fairseq would treat as 0.
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
    """Lower the default minimum length to the maximum length, in place.

    Args:
        chosen: generation options, with ``beam``, ``min_len`` and ``max_len_b``.
        given: options given by the user. A given ``min_len`` is not changed.
        model_length: maximum number of tokens of the model's summaries, including ``</s>``; None for no limit.

    Raises:
        PyramidionError: the beam or the maximum length is below 1.
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
    """Convert fairseq's own error about lengths, if the maximum depends on the document, to a one-line error.

    Raises:
        PyramidionError: instead of fairseq's AssertionError.
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
