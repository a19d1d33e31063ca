"""Summarise a folder of JSON lines or Parquet files with Ray Data, one model in each worker.

usage: python examples/ray/summarize.py INPUT OUTPUT [--checkpoint FILE] [--workers 2] [--gpus 1] [--address auto]

Each file of INPUT is a shard: OUTPUT gets a file of the same name, whole or not at all, and the same command goes on
with those that are not there. A row has the document's id, "summary", "score", "tokens" and "error"; documents that
failed are there with an empty summary and the reason. Without --address, Ray is started on this machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

from pyramidion_fairseq import pretrained
from pyramidion_fairseq.apps.ray.summaries import Summaries
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import find_checkpoint
from pyramidion_fairseq.pretrained import DEFAULT
from pyramidion_fairseq.utils.files import atomic_write

logger = logging.getLogger("summarize")
ENDINGS = (".jsonl", ".parquet")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path, metavar="INPUT", help="folder with *.jsonl or *.parquet")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="folder")
    parser.add_argument("--checkpoint", default=DEFAULT, metavar="FILE", help=f"default: {DEFAULT}")
    parser.add_argument("--field", metavar="NAME", help="column with the text (default: the usual ones)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="models (2)")
    parser.add_argument("--gpus", type=float, default=0, metavar="N", help="of each worker; 0: CPUs (default)")
    parser.add_argument(
        "--rows", type=int, default=256, metavar="N", help="documents sent to a worker at a time (256)"
    )
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="documents in a batch of the model (8)")
    parser.add_argument("--address", metavar="HOST", help="Ray cluster; auto: the one that this machine belongs to")
    return parser


def main() -> None:
    """Summarise the files that are not done yet."""
    args = build_parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check(args)
    files = inputs(args.input)
    args.output.mkdir(parents=True, exist_ok=True)
    import ray

    # A CPU for each worker, and one to read: Ray counts them, and would wait forever for the one that is not there.
    here = {} if args.address else {"num_cpus": max(os.cpu_count() or 1, args.workers + 1)}
    ray.init(address=args.address, logging_level=logging.WARNING, log_to_driver=False, **here)
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if args.workers >= cpus:
        raise PyramidionError(f"--workers {args.workers} leave no CPU of the {cpus} to read with: at most {cpus - 1}")
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    failed = total = 0
    broken: list[str] = []
    for path in files:
        target = args.output / path.name
        if target.exists():
            logger.info(f"{target}: kept")
            continue
        try:
            rows = summarised(ray, path, args)
        except (ray.exceptions.RayError, OSError, ValueError) as error:  # pyarrow raises the last two
            broken.append(str(path))
            logger.error(f"{path}: {reason(error)}")
            continue
        write(rows, target)
        bad = sum(bool(row["error"]) for row in rows)
        failed, total = failed + bad, total + len(rows)
        logger.info(f"{target}: {len(rows):,} documents, {bad:,} of them failed")
    if broken:
        raise PyramidionError(f"{len(broken)} of {len(files)} files have no summaries: {', '.join(broken)}")
    if failed:
        sys.exit(f"error: {failed:,} of {total:,} documents have no summary: their rows say why in the field error")


def check(args: argparse.Namespace) -> None:
    """Refuse numbers below 1 and a checkpoint that is not there, before Ray starts. Raises PyramidionError."""
    for name in ("workers", "rows", "batch_size"):
        if getattr(args, name) < 1:
            raise PyramidionError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")
    if args.gpus < 0:
        raise PyramidionError(f"--gpus must not be negative, got {args.gpus}")
    if not args.address:  # a cluster's workers may see files that this machine does not
        find_checkpoint(pretrained.find(args.checkpoint))


def inputs(folder: Path) -> list[Path]:
    """Return the files of a folder. Raises PyramidionError where there are none."""
    files = sorted(path for path in folder.glob("*") if path.suffix in ENDINGS)
    if not files:
        raise PyramidionError(f"{folder} has no {' and no '.join('*' + ending for ending in ENDINGS)}")
    return files


def reason(error: Exception) -> str:
    """Return the last line of an error, which Ray gives with the worker's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^[\w.]+Error: ", "", lines[-1]) if lines else type(error).__name__


def summarised(ray: Any, path: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of one file, in its order."""
    lines = path.suffix == ".jsonl"
    read = ray.data.read_text if lines else ray.data.read_parquet
    options = {"checkpoint": args.checkpoint, "field": args.field, "batch_size": args.batch_size, "json_lines": lines}
    options["device"] = "cuda" if args.gpus else "cpu"
    rows = read(str(path)).map_batches(
        Summaries,
        fn_constructor_kwargs=options,
        batch_size=args.rows,
        concurrency=args.workers,
        num_gpus=args.gpus,
    )
    return rows.take_all()


def write(rows: list[dict[str, Any]], target: Path) -> None:
    """Write the rows in the format of the file's name, all or nothing."""
    import pyarrow
    from pyarrow import parquet

    with atomic_write(target, f"{target}.tmp") as file:
        if target.suffix == ".parquet":
            parquet.write_table(pyarrow.Table.from_pylist(rows), file)
            return
        for row in rows:
            file.write((json.dumps({**row, "score": finite(row["score"])}, ensure_ascii=False) + "\n").encode())


def finite(score: float) -> float | None:
    """Return a score as JSON has it."""
    return None if math.isnan(score) else score


if __name__ == "__main__":
    try:
        main()
    except PyramidionError as error:
        sys.exit(f"error: {error}")
