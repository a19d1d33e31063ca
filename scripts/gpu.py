"""Run everything that needs a GPU: tests that are skipped without one, and benchmarks at the paper's sizes.

``make gpu`` (``python scripts/gpu.py``) runs the steps in turn, the most informative ones first, and prints a line for
each. If a step fails, the others still run, and the exit status is 1. Results and logs go to benchmarks/results/gpu,
or to ``--output``. When started again, it continues with the steps that are not done.

``--minutes 10`` starts no step after ten minutes, which is enough for the most informative ones. Without a network,
``--wheels FOLDER`` first installs the wheels of a folder next to the results, for any Python with torch.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from steps import ROOT, FailedError, call, take

#: Options of pytest: a test that hangs prints its stack after two minutes.
PYTEST = ["-m", "pytest", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=120"]
#: Folders and files of tests, with a limit in minutes each. They check results before anything is timed: kernels,
#: synchronisation with the device, the stock commands (in new processes), graphs, several GPUs, all architectures.
TESTS = {
    "tests/functional/topk/test_tournament_triton.py": 10, "tests/functional/topk/test_partition_triton.py": 5,
    "tests/test_no_waiting.py": 5, "tests/test_stock_commands.py": 10, "tests/generation/test_cuda_graph.py": 5,
    "tests/test_data_parallel.py": 5, "tests/models/test_every_architecture.py": 10,
}  # fmt: skip
#: Selected tests of some files. The others fork processes that train, which autograd refuses once a GPU was used.
CHOSEN = {"tests/test_data_parallel.py": ["-k", "gpus"]}

logger = logging.getLogger("gpu")


class Step(NamedTuple):
    """A command of this Python, whose results go to the folder of results."""

    arguments: list[str]
    minutes: float
    """After which it is stopped."""


def benchmark(name: str, *options: str, minutes: float) -> Step:
    """Return the step that runs a script of benchmarks/."""
    return Step([f"benchmarks/{name}.py", *options, "--output", "{output}"], minutes)


def training(precision: str) -> Step:
    """Return the step that times training of the deep models in a precision."""
    return benchmark("training", "--parts", "deep", "--rounds", "3", "--precision", precision, minutes=10)


STEPS = {
    **{Path(path).stem: Step([*PYTEST, path, *CHOSEN.get(path, [])], limit) for path, limit in TESTS.items()},
    "operator": benchmark("topk", "--parts", "rows", minutes=5),
    "training-bf16": training("bf16"),
    "generation": benchmark("generation", "--arch", "--tokens", "256", "--rounds", "3", minutes=10),
    "training-tf32": training("tf32"),
    "training-float32": training("float32"),
    "memory": benchmark("memory", minutes=10),
    "peers": benchmark("peers", minutes=15),
    "operators": benchmark("operators", "--parts", "cost", minutes=10),
    "pointer": benchmark("pointer", minutes=5),
    "generation-tables": benchmark("generation", "--rounds", "3", minutes=60),
    "training-tables": benchmark("training", "--parts", "tables", "--precision", "tf32", minutes=60),
    "fp16": Step([*PYTEST, "-m", "soak", "-k", "fp16", "tests/soak"], 20),
    "training-fp16": training("fp16"),
    "layer": benchmark("training", "--parts", "layer", minutes=10),
    "depth": benchmark("training", "--parts", "depth", minutes=30),
    "figures5_6": benchmark("topk", "--parts", "time", "nccs", minutes=120),
    "throughput": benchmark("throughput", "--rounds", "1", minutes=120),
}


def install(wheels: Path, site: Path) -> None:
    """Install the wheels of a folder into another one, without a network, and let all steps import from there.

    Raises:
        FailedError: pip could not.
    """
    if not (site / ".installed").exists():
        site.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--upgrade"]
        log = site.parent / "wheels.log"
        log.unlink(missing_ok=True)
        call([*pip, "--no-cache-dir", "--target", site, *sorted(wheels.glob("*.whl"))], log)
        try:
            call([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], log)
        except FailedError as error:  # compiled for a CPU
            logger.info(f"wheels: pooling on a CPU is not compiled: {error}")
        (site / ".installed").touch()
    paths = [str(site), str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, paths)), PYTHONUNBUFFERED="1")


def run(name: str, step: Step, output: Path, end: float) -> str:
    """Run a step until it ends or the time is over. Its log is named NAME.log if it succeeds.

    Args:
        name: of the step.
        step: the command.
        output: the folder of all results.
        end: ``time.monotonic()`` after which nothing is begun.

    Returns:
        A description of the result.
    """
    minutes = min(step.minutes, (end - time.monotonic()) / 60)
    if minutes <= 0:
        return "not begun: no time is left"
    folder, log = output / name, output / f"{name}.failed.log"
    folder.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    try:
        call([sys.executable, *(argument.format(output=folder) for argument in step.arguments)], log, minutes)
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()
    log.replace(output / f"{name}.log")
    return "done"


def main(argv: list[str] | None = None) -> int:
    """Run the chosen steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help=f"default: {' '.join(STEPS)}")
    output = ROOT / "benchmarks" / "results" / "gpu"
    parser.add_argument("--output", type=Path, default=output, help="folder of the results (benchmarks/results/gpu)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no step is begun")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install first, without a network")
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if unknown := set(args.steps) - set(STEPS):
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    if not torch.cuda.is_available():
        parser.error("no GPU is there, or this torch is built for CPUs; make test tests what a CPU can")
    if not args.minutes > 0:
        parser.error("--minutes must be more than 0")
    if args.wheels and not any(args.wheels.glob("*.whl")):
        parser.error(f"--wheels {args.wheels}: there are no wheels")
    output, steps, end = args.output.resolve(), {}, time.monotonic() + 60 * args.minutes
    for name in args.steps or STEPS:
        if (output / f"{name}.log").exists():
            logger.info(f"{name}: done before")
        else:
            steps[name] = functools.partial(run, name, STEPS[name], output, end)
    if args.wheels:
        try:
            install(args.wheels.resolve(), output / "site")
        except FailedError as error:
            parser.error(f"--wheels {args.wheels}: {error}")
    return take(steps, logger)


if __name__ == "__main__":
    sys.exit(main())
