"""The compiled functions of ``functional/csrc``. setup.py compiles them when the package is installed.

Without them a CPU takes the operations of torch, which are their reference.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

#: Counts changes of the compiled functions' arguments, with ``bindings.cpp``.
_INTERFACE = 2


def _compiled() -> Any:
    """Return the extension module; None where there is none, or it was compiled for another torch or other sources.

    Imported by name, so that exported models do not copy it.
    """
    name = f"{__package__}._native"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return None
    except ImportError as error:
        return _refuse(name, str(error))
    if module.torch_version != torch.__version__:
        return _refuse(name, f"it was compiled for {module.torch_version}")
    if getattr(module, "interface", 1) != _INTERFACE:
        return _refuse(name, "it was compiled from older sources")
    return module


def _refuse(name: str, problem: str) -> None:
    """Log why the compiled functions are not taken."""
    logger.warning(
        f"{name} does not fit torch {torch.__version__} or this package, so pooling on a CPU takes longer; install "
        f"pyramidion_fairseq again with pip install --no-build-isolation ({problem})"
    )


_FUNCTIONS = _compiled()


def functions() -> Any:
    """Return the compiled functions; None where there are none."""
    return _FUNCTIONS


def compiled_for(*tensors: Tensor | None) -> bool:
    """Return whether there are compiled functions, and all tensors are on the CPU."""
    return _FUNCTIONS is not None and all(x is None or x.device.type == "cpu" for x in tensors)
