"""Measure variants in one process, describe the machine, and write results: shared code of the benchmarks.

A benchmark calls ``parser()``, ``parse()``, ``alternate()`` for each group of variants, and ``report()``. Only ratios
within one run can be compared between machines.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import functools
import importlib.util
import logging
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterable, NamedTuple, Sequence

import fairseq
import torch
from out_of_memory import attempt
from outputs import check_folder, write_results

HERE = Path(__file__).resolve().parent
#: glibc returns large blocks to the kernel at once; the page faults of getting them back would be measured.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
#: Dense matrix products in FLOP/s by the vendor's data sheets, without sparsity: float32, TF32, bf16 and fp16.
PEAKS = {
    "H200": (67e12, 494e12, 989e12),
    "H100": (67e12, 494e12, 989e12),
    "A100": (19.5e12, 156e12, 312e12),
    "L40": (90.5e12, 90.5e12, 181e12),
    "A10": (31.2e12, 62.5e12, 125e12),
}
#: Precision of products -> dtype of weights and states in generation, and of autocast in training.
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Times(NamedTuple):
    """Seconds of one variant over the rounds of a run; NaN if it ran out of memory."""

    median: float
    minimum: float
    spread: float
    """Half the interquartile range divided by the median."""
    rounds: int
    mean: float
    deviation: float
    """Standard deviation, as in the paper's Table 10; NaN for a single round."""
    failure: str = ""
    """Why there are no times: "out of memory, needs more than 12 GiB"."""

    @classmethod
    def of(cls, found: dict[str, Any]) -> Times:
        """Return what :func:`plain` made of times."""
        return cls(**{name: math.nan if value is None else value for name, value in found.items()})

    def about(self) -> str:
        """Return mean and standard deviation, or why there are none."""
        if self.failure:
            return self.failure
        return f"{self.mean:.3g}" if math.isnan(self.deviation) else f"{self.mean:.3g} ± {self.deviation:.2g}"


def parser(
    doc: str,
    rounds: int,
    precisions: Iterable[str] = PRECISIONS,
    devices: Sequence[str] = ("cpu", "cuda"),
    sizes: Sequence[str] = ("reduced", "paper"),
) -> argparse.ArgumentParser:
    """Return a parser with the options that benchmarks share, without those that have no effect.

    Args:
        doc: the script's docstring; its first line is the description.
        rounds: the default of ``--rounds``; where it is 0, there is no such option.
        precisions: what ``--precision`` may be; without any, there is no such option.
        devices: what ``--device`` may be, a GPU by default where there is one.
        sizes: what ``--size`` may be; without any, there is no such option.
    """
    out = argparse.ArgumentParser(description=doc.splitlines()[0])
    out.add_argument("--output", type=Path, help="folder for the JSON, the table and the figure (default: none)")
    default = "cuda" if "cuda" in devices and torch.cuda.is_available() else "cpu"
    out.add_argument("--device", choices=devices, default=default, help="device (default: a GPU if available)")
    out.set_defaults(size=None, rounds=1)
    if sizes:
        help_of_sizes = "sizes to measure at (default: the paper's on a GPU, reduced ones on a CPU)"
        out.add_argument("--size", choices=sizes, help=help_of_sizes)
    if rounds:
        out.add_argument("--rounds", type=int, default=rounds, help="alternating runs per variant")
    if precisions:
        default = "bf16 on a GPU, float32 on a CPU" if "bf16" in precisions else "float32"
        out.add_argument("--precision", choices=list(precisions), help=f"of matrix products (default: {default})")
        out.set_defaults(default_on_gpu="bf16" if "bf16" in precisions else "float32")
    return out


def parse(arguments: argparse.ArgumentParser, keep_memory: bool = True) -> argparse.Namespace:
    """Parse the command line; on a CPU, restart with an allocator that keeps its memory if requested."""
    args = arguments.parse_args()
    logging.getLogger().setLevel(logging.WARNING)  # importing fairseq switches everything on
    if args.rounds < 1:
        arguments.error("--rounds must be at least 1")
    if args.device != "cpu" and not torch.cuda.is_available():
        arguments.error(f"--device {args.device}: no GPU is there; leave it out to measure on the CPU")
    if "precision" in args:
        _set_precision(arguments, args)
    args.size = args.size or ("reduced" if args.device == "cpu" else "paper")
    if args.output and (reason := check_folder(args.output)):
        arguments.error(reason)
    if args.device == "cpu" and keep_memory and not getattr(args, "memory_of", None):
        restart_with_allocator()
    return args


def restart_with_allocator() -> None:
    """Restart the program with an allocator that keeps its memory, for stable times."""
    if sys.platform == "linux" and not ALLOCATOR.items() <= os.environ.items():
        os.environ.update(ALLOCATOR)
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606


def _set_precision(arguments: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Set and check ``--precision``, and let a GPU use TF32 only if requested."""
    if args.device == "cpu" and args.precision in ("tf32", "fp16"):
        arguments.error(f"--precision {args.precision}: a CPU has no such products; leave it out")
    args.precision = args.precision or ("float32" if args.device == "cpu" else args.default_on_gpu)
    torch.set_float32_matmul_precision("high" if args.precision == "tf32" else "highest")


def autocast(device: str, precision: str) -> torch.autocast:
    """Return a context in which training computes products in a precision of :data:`PRECISIONS`."""
    dtype, kind = PRECISIONS[precision], torch.device(device).type
    return torch.autocast(kind, dtype) if dtype != torch.float32 else torch.autocast(kind, enabled=False)


def synchronize(device: str) -> None:
    """Wait for the device."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def alternate(
    variants: dict[str, Callable[[], Any]], rounds: int, device: str = "cpu", warm_up: bool = True
) -> dict[str, Times]:
    """Time variants in turns, so that other load of the machine affects all of them equally.

    Args:
        variants: name -> a call that does the work once.
        rounds: timed calls of each.
        device: "cpu" or "cuda"; waits for it before and after every call.
        warm_up: call each once untimed before; not worth it for calls of half a minute.

    Returns:
        the times of every variant; one that runs out of memory is left out from then on, and its times say so.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    failures: dict[str, str] = {}

    def once(call: Callable[[], Any]) -> float:
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        return time.perf_counter() - start

    for timed in range(0 if warm_up else 1, rounds + 1):
        for name, call in variants.items():
            if name not in failures:
                taken, failure = attempt(functools.partial(once, call))
                if failure:
                    failures[name] = failure
                elif timed:
                    seconds[name].append(taken)
    none = Times(*[math.nan] * 3, 0, *[math.nan] * 2)
    return {
        name: none._replace(failure=failures[name]) if name in failures else summarize(seconds[name])
        for name in variants
    }


def summarize(seconds: list[float]) -> Times:
    """Return median, minimum, spread, mean and standard deviation of measured seconds."""
    median, several = statistics.median(seconds), len(seconds) > 1
    quartiles = statistics.quantiles(seconds, n=4) if several else [median] * 3
    spread = (quartiles[2] - quartiles[0]) / 2 / median
    deviation = statistics.stdev(seconds) if several else math.nan
    return Times(median, min(seconds), spread, len(seconds), statistics.mean(seconds), deviation)


def peak_memory(call: Callable[[], Any], device: str = "cpu") -> float:
    """Return the peak memory of tensors in bytes during ``call``, above that before; NaN if out of memory.

    On a GPU what its allocator says; on a CPU the allocations that torch's profiler saw.
    """
    peak, failure = attempt(functools.partial(peak_memory_of, call, device))
    return math.nan if failure else peak


def peak_memory_of(call: Callable[[], Any], device: str) -> int:
    """Return :func:`peak_memory`, but raise if out of memory."""
    if torch.device(device).type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def products(operations: float, device: str, precision: str) -> tuple[Callable[[], None], float]:
    """Return (call of large matrix products, its operations): the peak rate for a training step of about this size."""
    size = 2048 if device == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device, dtype=PRECISIONS[precision]) for _ in range(2))
    count = max(1, round(operations / (2 * size**3)))

    def call() -> None:
        for _ in range(count):
            a @ b

    return call, count * 2.0 * size**3


def peak(precision: str, device: str = "cuda") -> float | None:
    """Return the FLOP/s of products in a GPU's data sheet; None on a CPU and for unknown GPUs."""
    if device == "cpu" or not torch.cuda.is_available():
        return None
    column, name = {"float32": 0, "tf32": 1, "bf16": 2, "fp16": 2}[precision], torch.cuda.get_device_name()
    return next((rates[column] for part, rates in PEAKS.items() if part in name), None)


def machine(device: str) -> dict[str, Any]:
    """Return the conditions of a measurement: hardware, versions, date and command."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    git = ["env", "git", "rev-parse", "--short", "HEAD"]  # env says nothing where a bare machine has no git
    commit = subprocess.run(git, cwd=HERE, capture_output=True, text=True)
    return {
        "device": torch.cuda.get_device_name() if device != "cpu" else f"{torch.get_num_threads()} cores of {cpu}",
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fairseq": fairseq.__version__,
        "allocator": {name: os.environ.get(name) for name in ALLOCATOR} if device == "cpu" else None,
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip() or None,
        "command": shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
    }


def published(name: str = "tables") -> list[dict[str, str]]:
    """Return the paper's numbers, one dict per row.

    "tables" (every table, Figure 4) or "figures5_6" (the operator's grid).
    """
    with open(HERE / "published" / f"{name}.tsv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def table(headers: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table; numbers have three significant digits, None is empty, NaN is a dash."""

    def cell(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, float) and math.isnan(value):
            return "–"
        if isinstance(value, float) and abs(value) >= 100:
            return f"{value:,.0f}"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    cells = [headers, *([cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def draw(figure: Callable[[], Any], output: Path | None) -> Any:
    """Return the figure that a call draws; None without an output folder or without matplotlib."""
    if output is None:
        return None
    if importlib.util.find_spec("matplotlib") is None:
        logging.getLogger(__name__).warning("no figure: matplotlib is not installed")
        return None
    return figure()


def reached(ratio: float, bound: float, least: bool = True) -> str:
    """Return whether a ratio is at least (or at most) a bound: "yes", "no", or "not measured" for NaN."""
    if math.isnan(ratio):
        return "not measured"
    return "yes" if (ratio >= bound if least else ratio <= bound) else "no"


def plain(results: Any) -> Any:
    """Convert a value for JSON: NaN to None, :class:`Times` to a dict."""
    if isinstance(results, float) and math.isnan(results):
        return None
    if isinstance(results, Times):
        results = results._asdict()
    if isinstance(results, dict):
        return {key: plain(value) for key, value in results.items()}
    return [plain(value) for value in results] if isinstance(results, (list, tuple)) else results


def report(
    name: str,
    device: str,
    results: Any,
    tables: list[str],
    output: Path | None,
    figure: Any = None,
    precision: str | None = None,
) -> None:
    """Write NAME.json, NAME.md and NAME.png to ``output``, if there is one; print the tables with the machine's name.

    Args:
        name: of the benchmark.
        device: that was measured on.
        results: what :func:`plain` takes; goes under the key "results", beside "machine".
        tables: Markdown, each with its own heading.
        output: an existing folder, or None.
        figure: a matplotlib figure, or None.
        precision: of the matrix products, where it can be chosen.
    """
    about = {**machine(device), "precision": precision}
    products = f", {precision}" if precision else ""
    where = f"{about['device']}{products}, torch {about['torch']}, {about['date']}: `{about['command']}`"
    text = "\n\n".join([f"# {name}", where, *tables]) + "\n"
    if output is not None:  # before printing: where the reader has left, that fails
        write_results(output, name, {"machine": about, "results": plain(results)}, text, figure)
    print(text)
