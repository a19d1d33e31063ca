"""Run fairscale's FullyShardedDataParallel on CPUs: everything but the order of operations on a GPU's streams.

python -m tests.helpers.sharded RUNS

RUNS is the argument of ``train`` in JSON. One interpreter, which can import fairscale, forks the ranks of each run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import torch

from tests.helpers.paths import ROOT

#: Where scripts/bootstrap.sh puts fairscale.
FAIRSCALE = Path(sys.prefix) / "fairscale"


class Stream:
    """A stream of a device that runs every operation at once."""

    def wait_stream(self, other) -> None:
        """Return at once: there is nothing to wait for."""

    synchronize = wait_event = wait_stream


def train(runs: dict[str, list]) -> dict[str, list[int]]:
    """Run two ranks of ``fairseq-train`` for each {folder of logs: options, with RANK}; return their statuses."""
    path = os.pathsep.join([str(FAIRSCALE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.helpers.sharded", json.dumps(runs)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def take_cpus() -> None:
    """Make fairscale use the CPU and gloo instead of GPUs and NCCL, in this whole process."""
    from fairscale.nn.data_parallel import FullyShardedDataParallel, fully_sharded_data_parallel

    current, setup = [Stream()], FullyShardedDataParallel._setup_streams

    @contextmanager
    def stream(chosen):
        current.append(chosen)
        try:
            yield
        finally:
            current.pop()

    def setup_streams(self):
        available, torch.cuda.is_available = torch.cuda.is_available, lambda: True
        try:
            setup(self)
        finally:
            torch.cuda.is_available = available

    torch.cuda.Stream, torch.cuda.stream, torch.cuda.current_stream = Stream, stream, lambda *_: current[-1]
    torch.cuda.synchronize = lambda *_: None
    torch.Tensor.record_stream = lambda self, stream: None
    torch.Tensor.cuda = lambda self, *_, **__: self
    torch.distributed._reduce_scatter_base = _reduce_scatter()
    FullyShardedDataParallel._setup_streams = setup_streams
    fully_sharded_data_parallel._get_default_cuda_device = lambda module: torch.device("cpu")


def _reduce_scatter() -> Callable:
    stock = torch.distributed._reduce_scatter_base

    def flat(output, parts, **options):  # NCCL accepts any shape
        return stock(output.view(-1), parts.reshape(-1), **options)

    return flat


def main() -> None:
    """Run the training runs of the command line and print their statuses."""
    from tests.helpers.forked import fairseq_command
    from tests.helpers.ranks import end_ranks, start_ranks

    take_cpus()
    command = fairseq_command("train")
    statuses = {
        folder: end_ranks(start_ranks(lambda rank: command(), 2, Path(folder), ["fairseq-train", *options]), 120)
        for folder, options in json.loads(sys.argv[1]).items()
    }
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
