"""Group records into tasks for the worker processes, which parse and clean them."""

import collections.abc
from typing import Any, Counter, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from ..utils.shards import WHOLE, Shard
from .cleaning import clean
from .errors import BadRecord, Skip
from .labels import Labels, clean_label
from .record_types import Raw, Reader, Source

CHUNK_RECORDS, CHUNK_BYTES = 64, 1 << 20


class Document(NamedTuple):
    """A clean document. ``key`` is its id in the corpus, "" if it has none."""

    where: str
    line: int
    document: str
    summary: str
    key: str
    replaced: bool
    second: str = ""


class Task(NamedTuple):
    """Records of one reader that a worker parses and cleans together."""

    source: int
    reader: Reader
    lowercase: bool
    raws: List[Union[Raw, Skip]]
    labels: Labels = Labels.NONE


def clean_records(task: Task) -> Tuple[int, List[Union[Document, Skip]]]:
    """Parse and clean records in a worker; return the source's number and a Document or Skip per record, in order."""
    return task.source, [
        raw if isinstance(raw, Skip) else clean_record(task.reader, raw, task.lowercase, task.labels)
        for raw in task.raws
    ]


def clean_record(reader: Reader, raw: Raw, lowercase: bool, labels: Labels = Labels.NONE) -> Union[Document, Skip]:
    """Return a record as a Document, or as a Skip with the reason why it cannot be used."""
    try:
        parsed = reader.parse(raw)
        document, second = clean(parsed.document, lowercase), clean(parsed.second, lowercase)
        summary = clean(parsed.summary, lowercase and labels is Labels.NONE)
        if labels is not Labels.NONE:
            summary = clean_label(summary, labels)
        if not document or not summary:
            raise BadRecord("empty {}".format(labels.value if document else "document"))
        if parsed.second and not second:
            raise BadRecord("empty second text")
    except BadRecord as error:
        return Skip(raw.file, raw.line, str(error), error.bad, error.detail)
    return Document(raw.file, raw.line, document, summary, parsed.key, parsed.replaced, second)


def tasks(
    sources: Sequence[Source],
    full: Set[int],
    lowercase: bool,
    labels: Labels = Labels.NONE,
    shard: Shard = WHOLE,
    read: Optional[Counter[int]] = None,
) -> Iterator[Task]:
    """Split the corpus, or a shard of each source, into tasks of bounded size.

    A source is no longer read when its number is in ``full``. ``read`` counts the records of each source, including
    those of other shards.
    """
    for number, source in enumerate(sources):
        chunk: List[Union[Raw, Skip]] = []
        size = 0
        for index, raw in enumerate(source.reader.records()):
            if number in full:
                break
            if read is not None:
                read[number] += 1
            if index % shard.total != shard.number - 1:
                continue
            chunk.append(raw)
            size += 0 if isinstance(raw, Skip) else payload_bytes(raw.payload)
            if len(chunk) >= CHUNK_RECORDS or size >= CHUNK_BYTES:
                yield Task(number, source.reader, lowercase, chunk, labels)
                chunk, size = [], 0
        if chunk:
            yield Task(number, source.reader, lowercase, chunk, labels)


def payload_bytes(payload: Any) -> int:
    """Return the approximate size of a record in bytes, which grows with the length of its texts."""
    if isinstance(payload, (str, bytes)):
        return len(payload)
    if isinstance(payload, dict):
        payload = payload.values()
    return sum(payload_bytes(item) for item in payload) if isinstance(payload, collections.abc.Iterable) else 8
