"""The tokens of a document held by each of several devices: consecutive blocks, distributed evenly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parts:
    """Parts of documents of padded length ``length`` on ``size`` ranks.

    The first rank holds the first token. If there are fewer blocks than ranks, some parts are empty.
    """

    length: int
    """Padded length of the documents in tokens, at least 1."""
    block: int
    """Number of tokens per attention block. Parts start at the beginning of a block."""
    size: int
    """Number of ranks that share a document."""

    def start(self, rank: int) -> int:
        """Return the first token of a rank, or for rank ``size`` the end of the documents."""
        blocks = -(-self.length // self.block)
        return min(self.length, self.block * -(-blocks * rank // self.size))

    def stop(self, rank: int) -> int:
        """Return the end of a rank's part, exclusive."""
        return self.start(rank + 1)

    def width(self, rank: int) -> int:
        """Return the number of tokens held by a rank, which may be 0."""
        return self.stop(rank) - self.start(rank)

    @property
    def widths(self) -> list[int]:
        """Return the widths of all ranks, whose sum is :attr:`length`."""
        return [self.width(rank) for rank in range(self.size)]

    def beside(self, holder: int, asker: int, reach: int) -> tuple[int, int]:
        """Return the tokens of ``holder`` within ``reach`` tokens of the part of ``asker``: (start, stop).

        Empty (start = stop) for the asker itself and for an asker with an empty part.
        """
        if holder == asker or not self.width(asker):
            return 0, 0
        low, high = self.start(asker) - reach, self.stop(asker) + reach
        start, stop = max(self.start(holder), low), min(self.stop(holder), high)
        return (start, stop) if start < stop else (0, 0)
