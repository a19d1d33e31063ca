"""Is a pretrained model of use once it is long, sparse and pooled? Pretrain a small one, convert it, fine-tune it.

usage: compare.py --data DIR [--family bart] [--output DIR] [--size small] [--seed N]

DIR is what preprocess/prepare.py wrote, or a folder with train.*, valid.* and test.* files that it reads. Three steps,
all of stock commands: BART's or mBART's denoising of the training split's articles, in pieces of 256 tokens;
pyramidion-convert to 1024 tokens, LSG attention and a pooling; then fine-tuning on the summaries, beside the same
architecture from scratch, on the same batches. Writes results.json and results.png; killed, the same command goes on.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bart_long import curves, steps
from small_scale import process
from small_scale.corpus import corpus

from pyramidion_fairseq.errors import PyramidionError


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    out = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    out.add_argument("--data", required=True, type=Path, help="the corpus")
    out.add_argument("--family", default="bart", choices=sorted(steps.FAMILIES), help="what is pretrained")
    out.add_argument("--output", type=Path, default=Path("outputs/bart_long"), help="default: outputs/bart_long")
    out.add_argument("--size", default="small", choices=sorted(steps.SIZES), help="see steps.py")
    out.add_argument("--seed", type=int, default=1, help="of training (default: 1)")
    return out


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Do the steps that are not done; returns what results.json holds. Raises PyramidionError."""
    size = steps.SIZES[args.size]
    args.output.mkdir(parents=True, exist_ok=True)
    folder = corpus(args.data, args.output, steps.VOCABULARY)
    run = steps.Run(folder, args.output, size, args.seed, args.family)
    settings = {"data": str(folder.resolve()), "seed": args.seed, "family": args.family, **size._asdict()}
    curves.settle(args.output / "settings.json", settings)
    for name, step in steps.STEPS.items():
        marker = args.output / f"{name}.done"
        if not marker.exists():
            process.logger.info(name)
            step(run)
            marker.touch()
    return curves.write(run, settings)


def main() -> int:
    """Run the program; returns the exit status: 0, 1 (an error, one line) or 130 (interrupted)."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True, format="%(asctime)s %(message)s")
    process.logger.setLevel(logging.INFO)
    try:
        print(curves.table(compare(parser().parse_args())))
    except PyramidionError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: run the same command again to continue\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
