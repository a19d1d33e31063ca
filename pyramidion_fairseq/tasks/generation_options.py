"""Checks of generation options that fairseq accepts but that cannot be used with this package's models."""

from __future__ import annotations

import math
from typing import Any

from fairseq.search import LexicallyConstrainedBeamSearch

from ..errors import PyramidionError

_NO_TOKENS = "not supported, because the decoder attends to pooled vectors, not to tokens of the document"
_NO_STEPS = "not supported, because summaries are generated token by token, without steps of refinement"
#: Options that need something that hypotheses do not have, and the reason.
_MISSING = {
    "print_alignment": _NO_TOKENS,
    "replace_unk": _NO_TOKENS,
    "print_step": _NO_STEPS,
    "retain_iter_history": _NO_STEPS,
}
#: Maximum of --lenpen: higher powers of a length overflow.
MOST_LENPEN = 50


def refuse_generation(args: Any) -> None:
    """Raise PyramidionError for generation options that cannot be used.

    Args:
        args: arguments of ``build_generator``; any may be missing.
    """
    for name, reason in _MISSING.items():
        if getattr(args, name, None) not in (None, False):
            raise PyramidionError(f"--{name.replace('_', '-')}: {reason}")
    groups, beam = getattr(args, "diverse_beam_groups", -1), getattr(args, "beam", 5)
    if beam < 1:
        raise PyramidionError(f"--beam must be at least 1, got {beam}")
    for name in ("lenpen", "unkpen", "temperature", "diverse_beam_strength", "diversity_rate", "sampling_topp"):
        if not math.isfinite(getattr(args, name, None) or 0):
            raise PyramidionError(f"--{name.replace('_', '-')} {getattr(args, name)} is not a finite number")
    if abs(getattr(args, "lenpen", None) or 0) > MOST_LENPEN:
        raise PyramidionError(f"--lenpen must be between -{MOST_LENPEN} and {MOST_LENPEN}, got {args.lenpen}")
    if getattr(args, "temperature", 1) <= 0:
        raise PyramidionError(f"--temperature must be greater than 0, got {args.temperature}")
    for name in ("sampling_topk", "sampling_topp"):
        if getattr(args, name, -1) >= 0 and not getattr(args, "sampling", False):
            raise PyramidionError(f"--{name.replace('_', '-')} requires --sampling")
    if groups > 0 and beam % groups:
        raise PyramidionError(f"--diverse-beam-groups {groups} does not divide --beam {beam}")


def refuse_no_constraints(generator: Any, constraints: Any) -> None:
    """Raise PyramidionError for a constrained search without constraints, as in ``fairseq-generate``.

    Args:
        generator: fairseq's generator.
        constraints: packed constraints, or None.
    """
    if constraints is None and isinstance(getattr(generator, "search", None), LexicallyConstrainedBeamSearch):
        raise PyramidionError(
            "--constraints works only with fairseq-interactive, which reads the words that a summary must contain "
            "after its document and a tab"
        )
