"""A step of generation, captured once and replayed: CUDA graphs.

A step is a few hundred small operations, which a GPU finishes sooner than the host can start them. Replayed, they are
started all at once. A graph reads and writes the addresses that it was captured with: it lasts until the caches move,
which they do where they grow and where documents leave the batch.
"""

from __future__ import annotations

from typing import Callable, Sequence

import torch
from torch import Tensor

from .kv_cache import DecodingState

#: Steps that are computed as they are before one is captured: the first ones warm up, and caches that soon move again
#: are not worth a graph.
WARM_UP = 3


class CudaGraph:
    """What a function does on a GPU, captured while it is called; nothing is computed before :meth:`replay`."""

    #: One for each GPU: libraries keep memory for every stream that they see.
    _streams: dict[torch.device, torch.cuda.Stream] = {}

    def __init__(self, function: Callable[[], Sequence[Tensor]], device: torch.device):
        self._graph, self._device = torch.cuda.CUDAGraph(), device
        with torch.cuda.device(device):
            if device not in self._streams:
                self._streams[device] = torch.cuda.Stream(device)
            # Other threads may go on: one that reads documents copies them to the device.
            with torch.cuda.graph(self._graph, stream=self._streams[device], capture_error_mode="thread_local"):
                self._result = function()

    def replay(self) -> Sequence[Tensor]:
        """Compute; the result has the addresses that it had before."""
        with torch.cuda.device(self._device):
            self._graph.replay()
        return self._result


#: What captures a step, by the type of the device.
GRAPHS: dict[str, type] = {"cuda": CudaGraph}


def supports_cuda_graphs(x: Tensor) -> bool:
    """Return whether steps can be captured for the tensor; not under autocast, whose copies of weights come and go."""
    return x.device.type in GRAPHS and not torch.is_autocast_enabled(x.device.type)


class GraphedStep:
    """Calls a function of tensors as it is where the caches are new, then captures a call, and replays it afterwards.

    Args:
        function: takes and returns tensors; must do the same operations in every call, but for what is in tensors.
        state: the caches that the function changes.
    """

    def __init__(self, function: Callable[..., Sequence[Tensor]], state: DecodingState):
        self._function, self._state = function, state
        self._layout = -1
        self._calls = 0
        self._graph: CudaGraph | None = None
        self._inputs: list[Tensor] = []

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        """Return what the function returns."""
        if self._layout != self._state.layout:
            self._layout = self._state.layout
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
