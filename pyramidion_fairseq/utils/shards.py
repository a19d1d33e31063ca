"""One part of a collection, "2/4": the second of four, which another machine or another job works on."""

from __future__ import annotations

import re
from typing import Iterable, Iterator, NamedTuple, TypeVar

from ..errors import PyramidionError

Item = TypeVar("Item")


class Shard(NamedTuple):
    """Every ``total``-th item of a collection, beginning with the one called ``number``; both count from 1."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def of(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield this shard's items, in their order."""
        return (item for index, item in enumerate(items) if index % self.total == self.number - 1)

    def position(self, index: int) -> int:
        """Return the index, in the collection, of this shard's item ``index``; both count from 0."""
        return index * self.total + self.number - 1


#: All of a collection.
WHOLE = Shard(1, 1)


def parse_shard(text: str) -> Shard:
    """Return the shard that a user means.

    Raises:
        PyramidionError: it is none.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise PyramidionError(f"{text!r} is no shard: 1/4 is the first of four, 4/4 the last one")
    return Shard(int(found[1]), int(found[2]))
