"""Write clean documents to the files of their splits, and log every record that is skipped."""

import argparse
import collections
import hashlib
import json
import os
from typing import Counter, Dict, Sequence, Set, TextIO, Union

from ..utils.shards import WHOLE
from .corpus import SPLITS
from .errors import PrepareError, Skip
from .record_tasks import Document
from .record_types import Source
from .splitting import split_of

HOPELESS_AFTER = 1000  # bad records without a usable one, after which the run ends
SKIPPED = "skipped.jsonl"
#: Folder of a shard with the source and record number of each line of a split and of :data:`SKIPPED`.
POSITIONS = "positions"


class Collector:
    """Writes documents to the files of their splits, and counts documents and skipped records."""

    def __init__(self, args: argparse.Namespace, sources: Sequence[Source], files: Dict[str, TextIO], log: TextIO):
        self.args, self.sources, self.files, self.log = args, sources, files, log
        self.shard = args.shard or WHOLE
        self.documents: Dict[str, int] = {split: 0 for split in SPLITS}
        self.kept: Counter[int] = collections.Counter()  # by source
        self.positions: Counter[int] = collections.Counter()
        self.skipped: Counter[str] = collections.Counter()
        self.bad = self.replaced = 0
        self.full: Set[int] = set()
        self._seen: Set[bytes] = set()

    def add(self, number: int, item: Union[Document, Skip]) -> None:
        """Add a document or a skipped record of the source ``number``."""
        limit = self.args.max_documents
        if number in self.full:
            return
        position = self.shard.position(self.positions[number]) + 1
        self.positions[number] += 1
        if isinstance(item, Document) and self.sources[number].unique and self._is_duplicate(item):
            item = Skip(item.where, item.line, "duplicate", bad=False)
        if isinstance(item, Skip):
            self._note(SKIPPED, number, position)
            self._skip(item)
            return
        split = self.sources[number].split
        if split is None:
            key = item.key or f"{number}:{position}"
            split = split_of(key, self.args.seed, self.args.valid_fraction, self.args.test_fraction)
        self.files[split + ".source"].write(item.document + "\n")
        self.files[split + ".target"].write(item.summary + "\n")
        if self.args.second_field:
            self.files[split + ".second"].write(item.second + "\n")
        self._note(split, number, position)
        self.documents[split] += 1
        self.replaced += item.replaced
        self.kept[number] += 1
        if limit:
            same = [n for n, source in enumerate(self.sources) if source.split == self.sources[number].split]
            if sum(self.kept[n] for n in same) >= limit:
                self.full.update(same)

    def _note(self, name: str, number: int, position: int) -> None:
        """Record the source and position of a line if this is a shard; joining needs them."""
        if self.args.shard:
            self.files[os.path.join(POSITIONS, name)].write(f"{number} {position}\n")

    def _is_duplicate(self, item: Document) -> bool:
        texts = ("d" + item.document, *(["s" + item.summary] if self.args.labels is None else []))
        digests = {hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest() for text in texts}
        known = bool(digests & self._seen)
        self._seen |= digests
        return known

    def _skip(self, item: Skip) -> None:
        self.log.write(json.dumps(item._asdict()) + "\n")
        self.skipped[item.reason] += 1
        self.bad += item.bad
        detail = f", {item.detail}" if item.detail else ""
        if item.bad and self.args.strict:
            raise PrepareError(f"{item.file}:{item.line}: {item.reason}{detail} (--strict)")
        if self.bad == HOPELESS_AFTER and not sum(self.documents.values()):
            raise PrepareError(f"none of the first {HOPELESS_AFTER} records is usable: {self.reasons()}")

    def reasons(self) -> str:
        """Return the most common reasons for skipping records, with their counts, as text."""
        return "; ".join(f"{count} x {reason}" for reason, count in self.skipped.most_common(3))

    def check_counts(self) -> None:
        """Raise PrepareError if too many records were bad, or a requested split has no document."""
        usable = sum(self.documents.values())
        if self.bad > self.args.max_bad_fraction * (self.bad + usable):
            raise PrepareError(
                f"{self.bad} of {self.bad + usable} records are bad, more than --max-bad-fraction "
                f"{self.args.max_bad_fraction}: {self.reasons()}; each is listed in {SKIPPED}"
            )
        asked_for = {source.split for source in self.sources if source.split is not None and not self.args.shard}
        empty = [split for split in SPLITS if split in asked_for and not self.documents[split]]
        if empty or not usable:
            what = "for " + " and ".join(empty) if empty else "at all"
            raise PrepareError(f"no usable document {what}: {self.reasons() or 'the input has no records'}")
