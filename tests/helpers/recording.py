"""A stand-in for CUDA graphs on a CPU."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pyramidion_fairseq.generation import cuda_graph, kv_cache


class Replay(TorchDispatchMode):
    """A stand-in for a CUDA graph: it records a function's operations, which have no effect until replayed."""

    made = replayed = 0

    def __init__(self, function, device=None):
        super().__init__()
        self.operations, self._overwritten = [], []
        with self:
            self.result = function()
        for tensor, before in reversed(self._overwritten):
            tensor.copy_(before)
        Replay.made += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "item", "nonzero", "equal"), f"{name} makes the host wait"
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    self._overwritten.append((value, value.clone()))
        out = func(*args, **(kwargs or {}))
        if not isinstance(out, int):  # functions of types, such as promote_types, run on the host alone
            self.operations.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        Replay.replayed += 1
        for func, args, kwargs, out in self.operations:
            again = func(*args, **kwargs)
            for old, new in zip(*((x,) if isinstance(x, torch.Tensor) else x for x in (out, again))):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
        return self.result


@pytest.fixture
def replay(monkeypatch):
    monkeypatch.setitem(cuda_graph.GRAPHS, "cpu", Replay)
    monkeypatch.setattr(kv_cache, "GRAPH_GROWTH", 4)  # the caches move several times
    monkeypatch.setattr(cuda_graph, "WARM_UP", 1)
    monkeypatch.setattr(Replay, "made", 0)
    monkeypatch.setattr(Replay, "replayed", 0)
    return Replay
