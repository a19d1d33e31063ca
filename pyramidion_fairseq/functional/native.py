"""The functions of native.cpp, where they were compiled: setup.py does so when the package is installed.

Without them a CPU takes operations of torch, which are their reference; GPUs take neither.
"""

from __future__ import annotations

import importlib
import logging

import torch

logger = logging.getLogger(__name__)


def _compiled():
    """The extension module; None where there is none, or it was compiled for another torch.

    By name, as in ``partition``: a model exported to transformers has none.
    """
    name = f"{__package__}._native"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return None
    except ImportError:  # symbols are missing
        module = None
    if getattr(module, "torch_version", None) != torch.__version__.partition("+")[0]:
        logger.warning(
            f"{name} was compiled for another torch than {torch.__version__}, so pooling on a CPU takes longer; "
            "install pyramidion_fairseq again with pip install --no-build-isolation"
        )
        return None
    return module


#: The compiled functions, or None.
FUNCTIONS = _compiled()
