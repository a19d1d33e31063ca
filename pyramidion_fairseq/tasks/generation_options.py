"""Options of generation that fairseq takes and that cannot be met."""

from __future__ import annotations

import math
from typing import Any

from fairseq.search import LexicallyConstrainedBeamSearch

from ..errors import PyramidionError

_NO_TOKENS = "the decoder attends to pooled vectors, which are no tokens of the document"
_NO_STEPS = "summaries are written token by token: there are no steps of refinement"
#: Options that print or use what a hypothesis does not have, and why.
_MISSING = {
    "print_alignment": _NO_TOKENS,
    "replace_unk": _NO_TOKENS,
    "print_step": _NO_STEPS,
    "retain_iter_history": _NO_STEPS,
}
#: Length to a higher power is no number any more.
MOST_LENPEN = 50


def refuse_generation(args: Any) -> None:
    """Raise PyramidionError for options of generation that cannot be met, before it begins.

    Args:
        args: of generation, as of ``build_generator``; what is not there is not asked for.
    """
    for name, reason in _MISSING.items():
        if getattr(args, name, None) not in (None, False):
            raise PyramidionError(f"--{name.replace('_', '-')}: {reason}")
    groups, beam = getattr(args, "diverse_beam_groups", -1), getattr(args, "beam", 5)
    if beam < 1:
        raise PyramidionError(f"--beam {beam}: a beam has at least 1 hypothesis")
    for name in ("lenpen", "unkpen", "temperature", "diverse_beam_strength", "diversity_rate", "sampling_topp"):
        if not math.isfinite(getattr(args, name, None) or 0):
            raise PyramidionError(f"--{name.replace('_', '-')} {getattr(args, name)} is no finite number")
    if abs(getattr(args, "lenpen", None) or 0) > MOST_LENPEN:
        raise PyramidionError(f"--lenpen must lie between -{MOST_LENPEN} and {MOST_LENPEN}, got {args.lenpen}")
    if getattr(args, "temperature", 1) <= 0:
        raise PyramidionError(f"--temperature must be greater than 0, got {args.temperature}")
    for name in ("sampling_topk", "sampling_topp"):
        if getattr(args, name, -1) >= 0 and not getattr(args, "sampling", False):
            raise PyramidionError(f"--{name.replace('_', '-')} requires --sampling")
    if groups > 0 and beam % groups:
        raise PyramidionError(f"--diverse-beam-groups {groups} does not divide --beam {beam}")


def refuse_no_constraints(generator: Any, constraints: Any) -> None:
    """Raise PyramidionError for a search of given words to which none are given, as by fairseq-generate.

    Args:
        generator: fairseq's.
        constraints: packed, or None.
    """
    if constraints is None and isinstance(getattr(generator, "search", None), LexicallyConstrainedBeamSearch):
        raise PyramidionError(
            "--constraints: only fairseq-interactive reads words that a summary must have, behind its document after "
            "a tabulator; fairseq-generate reads none"
        )
