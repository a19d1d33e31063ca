"""fairscale's FullyShardedDataParallel on CPUs: what it does is all there, but its order on a GPU's streams."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Callable

import torch


class Stream:
    """Of a device that has finished every operation when it is called."""

    def wait_stream(self, other) -> None:
        """There is nothing to wait for."""

    synchronize = wait_event = wait_stream


def on_cpus(main: Callable[[], None]) -> Callable[[], None]:
    """``main`` in a process of its own, in which fairscale takes the CPU and gloo for GPUs and NCCL."""

    def run() -> None:
        from fairscale.nn.data_parallel import FullyShardedDataParallel, fully_sharded_data_parallel

        current, setup, reduce_scatter = [Stream()], FullyShardedDataParallel._setup_streams, _reduce_scatter()

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
        torch.distributed._reduce_scatter_base = reduce_scatter
        FullyShardedDataParallel._setup_streams = setup_streams
        fully_sharded_data_parallel._get_default_cuda_device = lambda module: torch.device("cpu")
        main()

    return run


def _reduce_scatter() -> Callable:
    stock = torch.distributed._reduce_scatter_base

    def flat(output, parts, **options):  # which NCCL takes in any shape
        return stock(output.view(-1), parts.reshape(-1), **options)

    return flat
