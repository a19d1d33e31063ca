"""A step of generation, recorded once and replayed: CUDA graphs.

A step is a few hundred small operations, which a GPU finishes sooner than the host can start them. Replayed, they are
started all at once. A recording reads and writes the places in memory that it was made with: it lasts until the caches
move, which they do where they grow and where documents leave the batch.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Iterator

import torch
from torch import Tensor, nn

from .state import DecodingState


class CudaGraph:
    """What a function does on a GPU, recorded while it is called; nothing is computed before :meth:`replay`."""

    def __init__(self, function: Callable[[], Any]):
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on: one that reads documents copies them to the device.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._result = function()

    def replay(self) -> Any:
        """Compute; the result lies where it lay before."""
        self._graph.replay()
        return self._result


#: What records, by the type of the device.
RECORDERS: dict[str, Callable[[Callable[[], Any]], Any]] = {"cuda": CudaGraph}


def recordable(x: Tensor) -> bool:
    """Whether there is a recorder for the tensor's device; autocast keeps copies of weights, which come and go."""
    return x.device.type in RECORDERS and not torch.is_autocast_enabled(x.device.type)


class RecordedStep:
    """Calls a function of tensors as it is where the caches are new, records the next call, and replays the others.

    Args:
        function: must do the same operations in every call, but for what is in tensors; its first call warms up.
        state: the caches that the function changes.
    """

    def __init__(self, function: Callable[..., Any], state: DecodingState):
        self._function, self._state = function, state
        self._layout, self._recording, self._inputs = -1, None, ()

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's result, which the next call may overwrite."""
        if self._layout != self._state.layout:
            self._layout, self._recording = self._state.layout, None
            return self._function(*inputs)
        if self._recording is None:
            self._inputs = [x.clone() for x in inputs]
            self._recording = RECORDERS[inputs[0].device.type](lambda: self._function(*self._inputs))
        else:
            for own, new in zip(self._inputs, inputs):
                own.copy_(new)
        return self._recording.replay()


def set_cuda_graphs(model: nn.Module, record: bool) -> None:
    """Let the model record and replay the steps of generation where its device can, or not."""
    for module in model.modules():
        if hasattr(module, "cuda_graphs"):
            module.cuda_graphs = record


@contextmanager
def cuda_graphs(*models: nn.Module) -> Iterator[None]:
    """What generates inside records its steps and replays them: same tokens and scores."""
    for model in models:
        set_cuda_graphs(model, True)
    try:
        yield
    finally:
        for model in models:
            set_cuda_graphs(model, False)
