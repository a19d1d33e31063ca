"""Errors: those that end the run, and those that skip a record."""

from typing import NamedTuple


class PrepareError(Exception):
    """Ends the run. The message is one line for the user: what is wrong and what to do."""


class BadRecord(Exception):
    """A record is skipped; the message is the reason for ``skipped.jsonl``.

    ``bad`` is False if the record is left out on purpose (a test module, a duplicate, a blank line). Such records are
    listed and counted, but ``--strict`` and ``--max-bad-fraction`` ignore them.
    """

    def __init__(self, reason: str, bad: bool = True, detail: str = "") -> None:
        super().__init__(reason)
        self.bad, self.detail = bad, detail


class Skip(NamedTuple):
    """A skipped record. ``line`` is its line in ``file`` (its row in a Parquet file or data set), counted from 1.

    Skipped records are counted by ``reason``; ``detail`` describes the single record.
    """

    file: str
    line: int
    reason: str
    bad: bool = True
    detail: str = ""
