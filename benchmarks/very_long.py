"""Shared code of the benchmarks of very long documents: a narrow model, and cells measured in separate processes.

With ``--output``, measured cells are kept there, and the same command continues with the missing ones.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, NamedTuple

import measure
import workload
from cells import Cells

LENGTHS = [2**power for power in range(13, 21)]
#: glibc returns all but small blocks at once: it would keep pieces of them, twice as much as the tensors need. To get
#: memory again takes time, of all lengths alike.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1000000"}


def narrow_model(device: str, size: str, length: int, **changes: Any) -> Any:
    """Return DeepPyramidion for documents of ``length`` tokens: narrow at the reduced size."""
    options = {**workload.divided("deeppyramidion", 1), "max_source_positions": length, **changes}
    if size == "reduced":
        for side in ("encoder_", "decoder_"):
            options.update({side + "embed_dim": 64, side + "ffn_embed_dim": 256, side + "attention_heads": 1})
    return workload.build(options, device, 2000 if size == "reduced" else workload.VOCABULARY)


class Benchmark(NamedTuple):
    """A benchmark of very long documents."""

    name: str
    """Name of the script and of the results."""
    doc: str
    """The script's docstring."""
    measure_one: Callable[..., dict[str, float]]
    """Measures a cell in this process: (command-line options, the cell's arguments) -> numbers."""
    lengths: list[int]
    """Lengths of the documents, in tokens."""

    def build_parser(self) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        parser = measure.parser(self.doc, rounds=1)
        parser.add_argument("--longest", type=int, default=self.lengths[-1], help="longest document, in tokens")
        parser.add_argument("--one", type=json.loads, help="measure this cell in this process and print its numbers")
        return parser

    def main(self, run: Callable[[Measured], tuple[dict[str, Any], list[str]]]) -> None:
        """Read the command line, and measure.

        Args:
            run: asks for cells, and returns results and tables.
        """
        parser = self.build_parser()
        args = measure.parse(parser, keep_memory=False)
        if args.longest < self.lengths[0]:
            parser.error(f"--longest {args.longest}: the shortest document has {self.lengths[0]} tokens")
        if args.one:
            found = self.measure_one(args, **args.one)
            resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # of the process, all it has had
            sys.stdout.write(json.dumps({**found, "resident": resident}) + "\n")
            return
        results, tables = run(Measured(self, args))
        measure.report(self.name, args.device, results, tables, args.output, None, args.precision)


class Measured:
    """The requested cells of a benchmark, measured or from an earlier run.

    Args:
        benchmark: whose cells.
        args: its command line.
    """

    def __init__(self, benchmark: Benchmark, args: Any):
        self.args = args
        self.lengths = [length for length in benchmark.lengths if length <= args.longest]
        self._script = Path(sys.modules[benchmark.measure_one.__module__].__file__ or "").resolve()
        self._cells = Cells(args.output, benchmark.name)

    def get(self, name: str, processes: int = 1, **given: Any) -> list[dict[str, float]]:
        """Return each process's result for a cell; the processes connect like those of torchrun."""
        chosen = f"{self.args.device}, {self.args.size}, {self.args.precision}, rounds: {self.args.rounds}"
        found: list[dict[str, float]] = self._cells.get(
            f"{name}, {chosen}", lambda: self._measure(name, processes, given)
        )
        return found

    def _measure(self, name: str, processes: int, given: dict[str, Any]) -> list[dict[str, float]]:
        sys.stdout.write(f"{name} ...\n")
        sys.stdout.flush()
        words = [f"--{option}={getattr(self.args, option)}" for option in ("device", "size", "rounds", "precision")]
        command = [sys.executable, str(self._script), *words, "--one", json.dumps(given)]
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
        environment = {**os.environ, **ALLOCATOR, **world}
        started = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**environment, "RANK": str(rank)})
            for rank in range(processes)
        ]
        outputs = [process.communicate()[0] for process in started]
        if any(process.returncode for process in started):
            raise SystemExit(f"error: {name} failed: statuses {[process.returncode for process in started]}")
        return [json.loads(output.splitlines()[-1]) for output in outputs]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
