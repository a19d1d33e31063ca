"""Rewrites the articles of each split, in files of gzipped JSON lines."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import Callable, Iterable, Iterator


def read_articles(path: Path) -> Iterator[dict]:
    """Yield the records of a file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def rewrite(description: str, splits: list[str], change: Callable[[Iterable[dict]], Iterable[dict]]) -> None:
    """Write what ``change`` makes of the articles of each split, from folder to folder of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    names = [f"{split}.jsonl.gz" for split in splits]
    missing = [args.source / name for name in names if not (args.source / name).is_file()]
    if missing:
        sys.exit(f"error: there is no {missing[0]}: SOURCE holds {', '.join(names)}")
    args.out.mkdir(parents=True, exist_ok=True)
    for split, name in zip(splits, names):
        count = 0
        with gzip.open(args.out / name, "wt", encoding="utf-8", compresslevel=3) as out:
            for record in change(read_articles(args.source / name)):
                out.write(json.dumps(record) + "\n")
                count += 1
        print(f"{split}: {count:,} articles")
