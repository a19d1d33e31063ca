"""Stage 1: write clean text to ``text/{split}.{source,target}``, and a list of skipped records."""

import argparse
import collections
import contextlib
import logging
import os
from typing import Any, Counter, Dict, Sequence, TextIO

from ..utils.shards import WHOLE
from .collector import POSITIONS, SKIPPED, Collector
from .corpus import SPLITS
from .errors import PrepareError
from .labels import labels_of, sides
from .progress_line import Progress
from .record_tasks import clean_records, tasks
from .record_types import Source
from .splitting import fill_empty_splits
from .worker_pool import ordered_map

logger = logging.getLogger("prepare")


def read_stage(args: argparse.Namespace, sources: Sequence[Source], folder: str) -> Dict[str, Any]:
    """Read, clean and split the corpus into files below ``folder``.

    Returns:
        Counts of records: ``documents`` per split, ``skipped`` per reason, ``bad`` and ``replaced``. For a shard also
        ``shard``, which joining needs.
    """
    read: Counter[int] = collections.Counter()
    os.makedirs(os.path.join(folder, "text"))
    prefixes = {split: os.path.join(folder, "text", split) for split in SPLITS}
    with contextlib.ExitStack() as stack:
        names = [f"{split}.{side}" for split in SPLITS for side in sides(args)]
        files = {name: _create(stack, os.path.join(folder, "text", name)) for name in names}
        if args.shard:
            os.makedirs(os.path.join(folder, POSITIONS))
            noted = [os.path.join(POSITIONS, name) for name in (*SPLITS, SKIPPED)]
            files.update((name, _create(stack, os.path.join(folder, name))) for name in noted)
        writer = Collector(args, sources, files, _create(stack, os.path.join(folder, SKIPPED)))
        work = tasks(sources, writer.full, args.lowercase, labels_of(args), args.shard or WHOLE, read)
        results = stack.enter_context(contextlib.closing(ordered_map(clean_records, work, args.workers)))
        progress = stack.enter_context(Progress("read"))
        for number, items in results:
            for item in items:
                writer.add(number, item)
            progress.add(len(items))
    writer.check_counts()
    if args.shard and not writer.documents["train"]:
        raise PrepareError(f"shard {args.shard} has no training documents: use fewer shards")
    if hashed(sources) and not args.shard:
        writer.documents = fill_empty_splits(prefixes, writer.documents, wanted_splits(args), sides(args))
    for split in SPLITS:
        if not writer.documents[split]:  # fairseq-preprocess must not get empty files
            for side in sides(args):
                os.unlink(f"{prefixes[split]}.{side}")
    if writer.skipped:
        logger.warning("skipped %d records: %s", sum(writer.skipped.values()), writer.reasons())
    result: Dict[str, Any] = {
        "documents": {split: count for split, count in writer.documents.items() if count},
        "skipped": dict(writer.skipped),
        "bad": writer.bad,
        "replaced": writer.replaced,
    }
    if args.shard:
        chosen = ("lowercase", "seed", "valid_fraction", "test_fraction")
        result["shard"] = {
            **args.shard._asdict(),
            "options": {name: getattr(args, name) for name in chosen},
            "hashed": hashed(sources),
            "fields": [list(getattr(source.reader, "fields", ())) for source in sources],
            "records": {str(number): read[number] for number in range(len(sources))},
        }
    return result


def hashed(sources: Sequence[Source]) -> bool:
    """Return whether some documents are split by hash, so that splits may be too small."""
    return any(source.split is None for source in sources)


def wanted_splits(args: argparse.Namespace) -> Dict[str, bool]:
    """Return for each split whether it must have documents."""
    return {"train": True, "valid": args.valid_fraction > 0, "test": args.test_fraction > 0}


def _create(stack: contextlib.ExitStack, path: str) -> TextIO:
    return stack.enter_context(open(path, "w", encoding="utf-8", newline="\n"))
