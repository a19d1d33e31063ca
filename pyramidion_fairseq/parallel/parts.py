"""Which tokens of a document each of several devices holds: consecutive blocks, as even as whole blocks can be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parts:
    """The parts of documents of ``length`` tokens, padding counted, on ``size`` ranks.

    The first rank holds the first token. Where there are fewer blocks than ranks, some parts are empty.
    """

    length: int
    """Tokens of the padded documents, at least 1."""
    block: int
    """Tokens in a block of the attention; a part starts where a block does."""
    size: int
    """Ranks that share a document."""

    def start(self, rank: int) -> int:
        """Return the first token of a rank, or of rank ``size`` the document's end."""
        blocks = -(-self.length // self.block)
        return min(self.length, self.block * -(-blocks * rank // self.size))

    def stop(self, rank: int) -> int:
        """Return the token behind a rank's last one."""
        return self.start(rank + 1)

    def width(self, rank: int) -> int:
        """Return how many tokens a rank holds, which may be 0."""
        return self.stop(rank) - self.start(rank)

    @property
    def widths(self) -> list[int]:
        """Return the widths of all ranks; their sum is :attr:`length`."""
        return [self.width(rank) for rank in range(self.size)]

    def beside(self, holder: int, asker: int, reach: int) -> tuple[int, int]:
        """Return the tokens of ``holder`` that lie up to ``reach`` tokens beside the part of ``asker``: (start, stop).

        Nothing (start = stop) for the asker itself and for one with an empty part.
        """
        if holder == asker or not self.width(asker):
            return 0, 0
        low, high = self.start(asker) - reach, self.stop(asker) + reach
        start, stop = max(self.start(holder), low), min(self.stop(holder), high)
        return (start, stop) if start < stop else (0, 0)
