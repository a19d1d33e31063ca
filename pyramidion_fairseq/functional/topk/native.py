"""The functions of ``functional/csrc``, where they were compiled: setup.py does so when the package is installed.

Without them a CPU takes operations of torch, which are their reference.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def _compiled() -> Any:
    """Return the extension module; None where there is none, or it was compiled for another torch.

    It is imported by name, as in :class:`~.gpu.Kernels`: a model exported to transformers has none.
    """
    name = f"{__package__}._native"
    try:
        module = importlib.import_module(name)
        problem = None if module.torch_version == torch.__version__ else f"it was compiled for {module.torch_version}"
    except ModuleNotFoundError:
        return None
    except ImportError as error:
        problem = error
    if problem is not None:
        logger.warning(
            f"{name} does not fit torch {torch.__version__}, so pooling on a CPU takes longer; install "
            f"pyramidion_fairseq again with pip install --no-build-isolation ({problem})"
        )
        return None
    return module


_FUNCTIONS = _compiled()


def functions() -> Any:
    """Return the compiled functions; None where there are none."""
    return _FUNCTIONS


def compiled_for(*tensors: Tensor | None) -> bool:
    """Whether there are compiled functions, and the tensors lie where these can read them."""
    return _FUNCTIONS is not None and all(x is None or x.device.type == "cpu" for x in tensors)
