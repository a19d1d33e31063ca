"""fairscale's FullyShardedDataParallel on CPUs: what it does is all there, but its order on a GPU's streams.

python -m tests.helpers.sharded fairseq-train's options
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import torch

#: Where scripts/bootstrap.sh puts fairscale.
FAIRSCALE = Path(sys.prefix) / "fairscale"


class Stream:
    """Of a device that has finished every operation when it is called."""

    def wait_stream(self, other) -> None:
        """There is nothing to wait for."""

    synchronize = wait_event = wait_stream


def train() -> None:
    """``fairseq-train`` with the options of this process, which becomes a new one that sees fairscale."""
    path = os.pathsep.join([str(FAIRSCALE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    os.execve(sys.executable, [sys.executable, "-m", "tests.helpers.sharded", *sys.argv[1:]], environment)  # noqa: S606


def take_cpus() -> None:
    """Let fairscale take the CPU and gloo for GPUs and NCCL, in all of this process."""
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

    def flat(output, parts, **options):  # which NCCL takes in any shape
        return stock(output.view(-1), parts.reshape(-1), **options)

    return flat


if __name__ == "__main__":
    from fairseq_cli.train import cli_main

    from tests.helpers.forked import LOG_FORMAT

    logging.basicConfig(format=LOG_FORMAT, level=logging.INFO, stream=sys.stdout, force=True)
    take_cpus()
    cli_main()
