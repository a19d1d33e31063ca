"""Memory that did not suffice."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a GPU or the machine has no memory left: torch has a type for GPUs only."""
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "can't allocate memory")
    )
