"""Access to the compiled functions of ``functional/csrc``, which setup.py compiles at installation.

Without them, a CPU uses the torch implementation, which is their reference.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

#: Version of the compiled functions' arguments; must equal ``interface`` in ``bindings.cpp``.
_INTERFACE = 2


def _compiled() -> Any:
    """Import the extension module; None if it is missing, or was compiled for another torch or from other sources.

    It is imported by name, so that exported models do not copy it.
    """
    name = f"{__package__}._native"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return None
    except ImportError as error:
        return _warn_unusable(name, str(error))
    if module.torch_version != torch.__version__:
        return _warn_unusable(name, f"it was compiled for {module.torch_version}")
    if getattr(module, "interface", 1) != _INTERFACE:
        return _warn_unusable(name, "it was compiled from older sources")
    return module


def _warn_unusable(name: str, problem: str) -> None:
    """Log why the compiled functions are not used."""
    logger.warning(
        f"{name} does not fit torch {torch.__version__} or this package, so pooling on a CPU takes longer; install "
        f"pyramidion_fairseq again with pip install --no-build-isolation ({problem})"
    )


_FUNCTIONS = _compiled()


def functions() -> Any:
    """Return the module of compiled functions, or None."""
    return _FUNCTIONS


def compiled_for(*tensors: Tensor | None) -> bool:
    """Return whether compiled functions exist and all tensors are on the CPU."""
    return _FUNCTIONS is not None and all(x is None or x.device.type == "cpu" for x in tensors)
