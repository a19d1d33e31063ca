"""Types of the entries in the table of changes, :mod:`.patches`."""

from __future__ import annotations

from typing import Callable, NamedTuple


class LibraryChange(NamedTuple):
    """A change of one attribute or state of another package."""

    target: str
    """Dotted name of the attribute that is replaced or wrapped; a description if it is not an attribute."""
    fault: str
    """What happens without the change."""
    change: str
    """What is done."""
    until: str
    """When the change can be removed."""


class Patch(NamedTuple):
    """The changes that one module makes."""

    install: Callable[[], None]
    """Makes the changes. Further calls do nothing."""
    changes: tuple[LibraryChange, ...]
