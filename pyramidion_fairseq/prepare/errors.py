"""What can go wrong: an error that ends the run with one line, and the reasons for which one record is left out."""

from typing import NamedTuple


class PrepareError(Exception):
    """Ends the run. The message is one line for the user: what is wrong and what to do about it."""


class BadRecord(Exception):
    """One record cannot be used; the message is the reason that goes into ``skipped.jsonl``.

    ``bad`` is False where the record is left out by choice (a test module, a duplicate, a blank line) and not because
    it is broken: such records are listed and counted too, but neither ``--strict`` nor ``--max-bad-fraction`` minds.
    """

    def __init__(self, reason: str, bad: bool = True, detail: str = "") -> None:
        super().__init__(reason)
        self.bad, self.detail = bad, detail


class Skip(NamedTuple):
    """A record that was left out. ``line`` is the line (row, for tables) in ``file``, counted from 1.

    Records are counted by ``reason``, of which there are few; ``detail`` is what is particular to this one.
    """

    file: str
    line: int
    reason: str
    bad: bool = True
    detail: str = ""
