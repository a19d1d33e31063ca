"""Lazy import of Triton kernels. Without them, a GPU uses the torch implementation."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from types import ModuleType

from torch import Tensor


class Kernels:
    """A module of this package with Triton kernels, imported on first use.

    The module is imported by name: exported models copy every module named in an ``import`` statement, and must load
    without Triton. ``exist`` is set without an import, because Triton takes a second to load and torch.compile does
    not trace imports.
    """

    def __init__(self, name: str):
        self.name = f"{__package__}.{name}"
        self.exist = _is_importable("triton") and _is_importable(self.name)

    def supports(self, first: Tensor, *others: Tensor | None) -> bool:
        """Return whether the kernels exist and all tensors are on the same GPU."""
        return self.exist and first.is_cuda and all(x is None or x.device == first.device for x in others)

    def __call__(self) -> ModuleType:
        """Import and return the module."""
        return importlib.import_module(self.name)


def _is_importable(module: str) -> bool:
    """Return whether a module can be imported."""
    spec = find_spec(module)
    return spec is not None and spec.loader is not None  # a folder of this name has no loader
