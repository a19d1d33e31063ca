"""Marks on functions that replace or wrap fairseq's, so that none is patched twice."""

from typing import Any


def mark(function: Any, name: str) -> Any:
    """Set the attribute ``name`` of a function to True, and return the function."""
    setattr(function, name, True)
    return function
