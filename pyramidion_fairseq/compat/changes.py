"""The entries of the table of what importing the package changes: :mod:`.patches`."""

from __future__ import annotations

from typing import Callable, NamedTuple


class Change(NamedTuple):
    """One thing that is changed."""

    target: str
    """What is replaced or wrapped, by its dotted name; in words where it is no attribute."""
    fault: str
    """What happens without it."""
    change: str
    """What is done."""
    until: str
    """When it can go."""


class Patch(NamedTuple):
    """The changes that one module makes."""

    install: Callable[[], None]
    """Makes the changes. Called again, it does nothing."""
    changes: tuple[Change, ...]
