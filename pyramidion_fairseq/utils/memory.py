"""Detection of out-of-memory errors."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a GPU or the host is out of memory. torch has an error type for GPUs only."""
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "can't allocate memory")
    )
