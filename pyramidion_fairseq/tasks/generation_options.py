"""Options of generation that fairseq takes and that cannot be met."""

from __future__ import annotations

from typing import Any

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


def refuse_generation(args: Any) -> None:
    """Raise PyramidionError for options of generation that cannot be met, before it begins.

    Args:
        args: of generation, as of ``build_generator``; what is not there is not asked for.
    """
    for name, reason in _MISSING.items():
        if getattr(args, name, None) not in (None, False):
            raise PyramidionError(f"--{name.replace('_', '-')}: {reason}")
    groups, beam = getattr(args, "diverse_beam_groups", -1), getattr(args, "beam", 5)
    if groups > 0 and beam % groups:
        raise PyramidionError(f"--diverse-beam-groups {groups} does not divide --beam {beam}")
