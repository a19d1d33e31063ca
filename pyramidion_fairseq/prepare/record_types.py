"""The shape of what every reader gives.

A reader is any picklable object with ``label``, ``signature()`` (JSON-able: what its content depends on),
``records()`` (run in the main process: yields Raw or Skip, in order, in bounded memory) and ``parse(raw)`` (run in
worker processes: gives Parsed or raises BadRecord). What is slow belongs in ``parse``.
"""

from typing import Any, Iterator, List, NamedTuple, Optional, Protocol, Union

from .errors import Skip


class Raw(NamedTuple):
    """A record as it was read. ``line`` counts from 1."""

    file: str
    line: int
    payload: Any


class Parsed(NamedTuple):
    """A record's texts before cleaning. ``replaced``: invalid UTF-8 was replaced by U+FFFD.

    With ``--labels`` the summary is the label; ``second`` is the second text of a pair, "" where there are no pairs.
    """

    document: str
    summary: str
    key: str = ""
    replaced: bool = False
    second: str = ""


class Reader(Protocol):
    """See the module's docstring."""

    label: str

    def signature(self) -> List[object]: ...

    def records(self) -> Iterator[Union[Raw, Skip]]: ...

    def parse(self, raw: Raw) -> Parsed: ...


class Source(NamedTuple):
    """A reader and the split that it fills; ``split`` None: each document's split follows from a hash.

    ``unique``: documents whose text or summary was seen before are left out.
    """

    reader: Reader
    split: Optional[str]
    unique: bool = False
