"""All that needs a GPU, in one command: tests that are skipped without one, and benchmarks at the paper's sizes.

``make gpu`` (``python scripts/gpu.py``) takes one step after the other, the ones that tell most first, and prints a
line for each; a step that fails does not hold up the others, and the exit status is 1. Each step's results and log go
to benchmarks/results/gpu, or the folder of ``--output``. Started again, it goes on with the steps that are not done.
"""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from steps import ROOT, call, take

TESTS = [
    "tests/functional/topk/test_tournament_triton.py", "tests/functional/topk/test_partition_triton.py",
    "tests/test_no_waiting.py", "tests/generation/test_cuda_graph.py", "tests/test_data_parallel.py",
    "tests/models/test_every_architecture.py",
]  # fmt: skip

logger = logging.getLogger("gpu")


class Step(NamedTuple):
    """A command of this Python; what a benchmark measures goes to the folder of results."""

    arguments: list[str]
    minutes: float
    """After which it is stopped."""


def benchmark(name: str, *options: str, minutes: float) -> Step:
    """Return a script of benchmarks/."""
    return Step([f"benchmarks/{name}.py", *options, "--output", "{output}"], minutes)


STEPS = {
    "tests": Step(["-m", "pytest", "-p", "no:cacheprovider", *TESTS], 30),
    "operator": benchmark("topk", "--parts", "rows", minutes=10),
    "generation": benchmark("generation", "--arch", "--tokens", "256", "--rounds", "1", minutes=20),
    "training": benchmark("training", "--parts", "deep", "--rounds", "3", minutes=20),
    "layer": benchmark("training", "--parts", "layer", minutes=10),
    "memory": benchmark("memory", minutes=60),
    "fp16": Step(["-m", "pytest", "-p", "no:cacheprovider", "-m", "soak", "-k", "fp16", "tests/soak"], 20),
    "figures5_6": benchmark("topk", "--parts", "time", "nccs", minutes=120),
    "training-tables": benchmark("training", "--parts", "depth", "tables", minutes=120),
    "generation-tables": benchmark("generation", "--rounds", "1", minutes=240),
    "throughput": benchmark("throughput", "--rounds", "1", minutes=120),
}


def run(name: str, step: Step, output: Path) -> str:
    """Run one step; its log is called NAME.log when all went well. Returns what to say of it."""
    folder, log = output / name, output / f"{name}.failed.log"
    folder.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    try:
        call([sys.executable, *(argument.format(output=folder) for argument in step.arguments)], log, step.minutes)
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()
    log.replace(output / f"{name}.log")
    return "done"


def main(argv: list[str] | None = None) -> int:
    """Run the steps that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help=f"default: {' '.join(STEPS)}")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "gpu")
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if unknown := set(args.steps) - set(STEPS):
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    if not torch.cuda.is_available():
        parser.error("no GPU is there, or this torch is built for CPUs; make test tests what a CPU can")
    output, steps = args.output.resolve(), {}
    for name in args.steps or STEPS:
        if (output / f"{name}.log").exists():
            logger.info(f"{name}: done before")
        else:
            steps[name] = functools.partial(run, name, STEPS[name], output)
    return take(steps, logger)


if __name__ == "__main__":
    sys.exit(main())
