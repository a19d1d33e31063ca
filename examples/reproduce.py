"""Reproduce the paper's rows with a small budget on one corpus, and compare them with the published numbers.

usage: reproduce.py --scale cpu --data DIR [--output DIR] [--rows ROW ...]     train, generate, score
       reproduce.py --scale cpu --data DIR [--output DIR] --measure            then time them, side by side
       reproduce.py --scale cpu --data DIR [--output DIR] --report             the table of what is done
       reproduce.py --scale cpu --data DIR [--output DIR] --differences        what its rows differ by

DIR is what preprocess/prepare.py wrote, or a folder with train.*, valid.* and test.* files that it reads. Rows are
independent: killed, or started with other --rows, the same command goes on where it was. A new --output that has the
results.json of another machine goes on from its rows. Speeds come from --measure alone, which runs the rows in turns:
those of training depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import signal
import sys
from pathlib import Path

import torch
from small_scale import differences, process, report, timing
from small_scale.corpus import corpus, fingerprint
from small_scale.scales import ROWS, SCALES, Scale, row_name
from small_scale.stages import Run, do_row, restore, write_json

from pyramidion_fairseq.errors import PyramidionError


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    out = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    out.add_argument(
        "--scale", required=True, choices=sorted(SCALES), help="size and budget: see small_scale/scales.py"
    )
    out.add_argument("--data", required=True, type=Path, help="the corpus")
    out.add_argument("--output", type=Path, default=Path("outputs/reproduce"), help="default: outputs/reproduce")
    rows = "architectures, with +OPTION=VALUE for what differs, or TABLE:ROW such as 2:8"
    out.add_argument("--rows", nargs="+", default=list(ROWS), help=rows)
    out.add_argument("--updates", type=int, help="instead of the scale's")
    out.add_argument("--seeds", type=int, nargs="+", default=[1], help="every row is trained once with each")
    out.add_argument("--rounds", type=int, default=3, help="of --measure: alternating runs of every row")
    what = out.add_mutually_exclusive_group()
    what.add_argument("--measure", action="store_true", help="time training and generation, and peak memory")
    what.add_argument("--report", action="store_true", help="write the table and the figure of what is there")
    what.add_argument("--differences", action="store_true", help="write what each pair of rows differs by")
    return out


def settle(run: Run) -> None:
    """Allow only one budget and one corpus per output folder, and use the rows of a ``results.json`` in it.

    Raises:
        PyramidionError: the folder has another budget or corpus, or the file is not from this program.
    """
    path, results = run.output / "settings.json", run.output / "results.json"
    settings = {"corpus": fingerprint(run.corpus), **json.loads(json.dumps(run.scale.__dict__))}
    source = next((file for file in (path, results) if file.exists()), None)
    if source is None:
        write_json(path, settings)
        return
    try:
        before = found = json.loads(source.read_text(encoding="utf-8"))
        if source == results:
            before = {"corpus": found.get("corpus"), **found["scale"]}
        other = [name for name in settings if before.get(name) != settings[name]]
        if source == results and not other:
            report.check_rows(run, found["rows"])
            restore(run, found["rows"])
            write_json(path, settings)
            if any(about["measured"] for about in found["rows"].values()):
                process.logger.warning("times in %s are of another machine and left out: --measure", results)
    except PyramidionError:
        raise
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise PyramidionError(f"{source} is not what this program writes: remove it") from None
    if other:
        made = ", ".join("another corpus" if name == "corpus" else f"{name} {before.get(name)}" for name in other)
        raise PyramidionError(f"{run.output} was made with {made}: use another --output")


def reproduce(args: argparse.Namespace) -> None:
    """Run the stages that the options select. Raise PyramidionError if one fails."""
    rows = list(dict.fromkeys(map(row_name, args.rows)))
    if args.rounds < 1 or (args.updates is not None and args.updates < 1):
        raise PyramidionError("--rounds and --updates must be at least 1")
    if not all(0 <= seed < 2**32 for seed in args.seeds):  # what NumPy takes
        raise PyramidionError("--seeds must lie between 0 and 4,294,967,295")
    device = "cuda" if args.scale == "gpu" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise PyramidionError("--scale gpu: no GPU is there; --scale cpu runs anywhere")
    scale: Scale = SCALES[args.scale]
    if args.updates:
        scale = dataclasses.replace(scale, updates=args.updates)
    args.output.mkdir(parents=True, exist_ok=True)
    folder = corpus(args.data, args.output, scale.vocabulary)
    run = Run(folder, args.output, scale, args.seeds[0], device)
    settle(run)
    if args.differences:
        print(differences.write(run))
        return
    if args.measure:
        timing.measure_rows(run, rows, args.rounds)
    elif not args.report:
        # All rows with the first seed before any with the second: what is there can be compared.
        work = [(run._replace(seed=seed), row) for seed in dict.fromkeys(args.seeds) for row in rows]
        for number, (one, row) in enumerate([*work, (run, "lead")], start=1):
            do_row(one, row, f"[{number}/{len(work) + 1}]")
            report.write(run)
    print(report.write(run))


def main() -> int:
    """Run the program and return the exit status: 0, 1 (error, one line), 130 or 143 (interrupted)."""
    style = {"format": "%(asctime)s %(message)s", "datefmt": "%H:%M:%S"}
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True, **style)  # fairseq has set it up already
    logging.getLogger("reproduce").setLevel(logging.INFO)
    args = parser().parse_args()
    if args.measure:
        timing.measure.restart_with_allocator()
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # a terminal that is closed; nohup ignores it
        signal.signal(signal.SIGHUP, stop)
    try:
        reproduce(args)
    except PyramidionError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or args.output}: {error.strerror or error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: run the same command again to continue\n")
        return 128 + (received[0] if received else signal.SIGINT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
