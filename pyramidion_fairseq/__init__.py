"""pyramidion_fairseq: summarisation of long documents with trainable representation pooling.

``fairseq-train --user-dir pyramidion_fairseq`` imports this file, which registers everything with fairseq. Console
commands (``pyramidion_commands``) defer the registration, because it takes seconds, which would delay ``--help``, and
because some commands need neither fairseq nor torch.
"""

import sys
from typing import Any

from .errors import PyramidionError
from .version import __version__

if "pyramidion_commands" not in sys.modules:
    from .registered import (
        ChunkedCrossEntropyCriterion,
        FusedAdamW,
        LongDocumentSummarizationTask,
        Pooled,
        PyramidionModel,
        RougeScorer,
        successive_halving_topk,
    )

__all__ = [
    "ChunkedCrossEntropyCriterion",
    "FusedAdamW",
    "LongDocumentSummarizationTask",
    "Pooled",
    "PyramidionError",
    "PyramidionModel",
    "RougeScorer",
    "__version__",
    "successive_halving_topk",
]


def __getattr__(name: str) -> Any:
    """Return a public name whose import a console command has deferred, and register everything with fairseq."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import registered

    return getattr(registered, name)
