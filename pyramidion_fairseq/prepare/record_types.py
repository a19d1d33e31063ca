"""The interface of readers, and the types of their records.

A reader is a picklable object with these attributes:

* ``label``: its name in messages;
* ``signature()``: a JSON-serialisable value that changes when the content may have changed;
* ``records()``: yields Raw or Skip in order, in bounded memory; runs in the main process;
* ``parse(raw)``: returns Parsed or raises BadRecord; runs in worker processes, so slow work belongs here.
"""

from typing import Any, Iterator, List, NamedTuple, Optional, Protocol, Union

from .errors import Skip


class Raw(NamedTuple):
    """A record as it was read. ``line`` counts from 1."""

    file: str
    line: int
    payload: Any


class Parsed(NamedTuple):
    """The texts of a record before cleaning. ``replaced``: invalid UTF-8 was replaced by U+FFFD.

    With ``--labels`` the summary is the label. ``second`` is the second text of a pair, "" if there are no pairs.
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
    """A reader and its split; if ``split`` is None, a hash decides the split of each document.

    ``unique``: documents whose text or summary occurred before are skipped.
    """

    reader: Reader
    split: Optional[str]
    unique: bool = False
