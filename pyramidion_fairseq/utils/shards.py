"""Shards of a collection: "2/4" is the second of four, which another machine or job processes."""

from __future__ import annotations

import re
from typing import Iterable, Iterator, NamedTuple, TypeVar

from ..errors import PyramidionError

Item = TypeVar("Item")


class Shard(NamedTuple):
    """Every ``total``-th item of a collection, starting with item ``number``, both counted from 1."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def of(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items of this shard in order."""
        return (item for index, item in enumerate(items) if index % self.total == self.number - 1)

    def position(self, index: int) -> int:
        """Return the index in the collection of item ``index`` of this shard, both counted from 0."""
        return index * self.total + self.number - 1


#: The whole collection.
WHOLE = Shard(1, 1)


def parse_shard(text: str) -> Shard:
    """Parse a shard such as "2/4".

    Raises:
        PyramidionError: the text is not a shard.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise PyramidionError(f"{text!r} is no shard: 1/4 is the first of four, 4/4 the last one")
    return Shard(int(found[1]), int(found[2]))
