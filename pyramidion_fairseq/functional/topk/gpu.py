"""Triton kernels, imported when they are first needed. Without them a GPU takes the operations of torch."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from types import ModuleType

from torch import Tensor


class Kernels:
    """A module of this package with Triton kernels.

    Imported by name and on first use: exported models copy every module that an ``import`` statement names, and must
    load without Triton. ``exist`` is known without importing, since Triton takes a second to load and torch.compile
    does not follow imports.
    """

    def __init__(self, name: str):
        self.name = f"{__package__}.{name}"
        self.exist = _is_there("triton") and _is_there(self.name)

    def supports(self, first: Tensor, *others: Tensor | None) -> bool:
        """Return whether there are kernels, and all tensors lie on one GPU."""
        return self.exist and first.is_cuda and all(x is None or x.device == first.device for x in others)

    def __call__(self) -> ModuleType:
        """Import and return the module."""
        return importlib.import_module(self.name)


def _is_there(module: str) -> bool:
    """Return whether a module can be imported."""
    spec = find_spec(module)
    return spec is not None and spec.loader is not None  # a folder of this name has no loader
