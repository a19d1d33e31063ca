"""Generation steps that are captured once as CUDA graphs and replayed.

A step consists of a few hundred small operations, which a GPU completes faster than the host can launch them. A replay
launches them all at once. A graph reads and writes the addresses with which it was captured, so it is valid until the
caches move. They move when they grow and when documents leave the batch.
"""

from __future__ import annotations

from typing import Callable, Sequence

import torch
from torch import Tensor

from .kv_cache import DecodingState

#: Number of steps without a graph before one is captured. The first ones warm up, and caches that soon move again are
#: not worth a graph.
WARM_UP = 3


class CudaGraph:
    """Captured GPU operations of a function. Nothing is computed before :meth:`replay`."""

    #: One stream per GPU, because libraries keep memory for every stream that they see.
    _streams: dict[torch.device, torch.cuda.Stream] = {}

    def __init__(self, function: Callable[[], Sequence[Tensor]], device: torch.device):
        self._graph, self._device = torch.cuda.CUDAGraph(), device
        with torch.cuda.device(device):
            if device not in self._streams:
                self._streams[device] = torch.cuda.Stream(device)
            # Other threads may continue, for instance one that copies documents to the device.
            with torch.cuda.graph(self._graph, stream=self._streams[device], capture_error_mode="thread_local"):
                self._result = function()

    def replay(self) -> Sequence[Tensor]:
        """Compute the outputs, which have the same addresses in every replay."""
        with torch.cuda.device(self._device):
            self._graph.replay()
        return self._result


#: Classes that capture a step, by device type.
GRAPHS: dict[str, type] = {"cuda": CudaGraph}


def supports_cuda_graphs(x: Tensor) -> bool:
    """Return whether steps on a tensor's device can be captured.

    Autocast is not supported, because it makes temporary copies of weights.
    """
    return x.device.type in GRAPHS and not torch.is_autocast_enabled(x.device.type)


class GraphedStep:
    """Calls a function directly while the caches are new, then captures one call, and replays it afterwards.

    Args:
        function: function of tensors that returns tensors. Apart from tensor values, every call must do the same
            operations.
        state: caches modified by the function.
    """

    def __init__(self, function: Callable[..., Sequence[Tensor]], state: DecodingState):
        self._function, self._state = function, state
        self._layout_version = -1
        self._calls = 0
        self._graph: CudaGraph | None = None
        self._inputs: list[Tensor] = []

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        """Return the outputs of the function."""
        if self._layout_version != self._state.layout_version:
            self._layout_version = self._state.layout_version
            self._calls = 0
            self._graph = None
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._function(*inputs)
        if self._graph is None:
            device, self._inputs = inputs[0].device, [x.clone() for x in inputs]
            self._graph = GRAPHS[device.type](lambda: self._function(*self._inputs), device)
        else:
            for own, new in zip(self._inputs, inputs):
                own.copy_(new)
        return [x.clone() for x in self._graph.replay()]  # the next replay writes to the same addresses
