"""pyramidion_fairseq: summarisation of long documents with trainable representation pooling.

``fairseq-train --user-dir pyramidion_fairseq`` imports this file, which registers everything with fairseq.
"""

from . import checkpoints, compat
from .errors import PyramidionError, install_excepthook
from .functional import Pooled, successive_halving_topk
from .models import PyramidionModel
from .optim import FusedAdamW
from .tasks import LongDocumentSummarizationTask
from .version import __version__

compat.install()
checkpoints.install()
install_excepthook()

__all__ = [
    "FusedAdamW",
    "LongDocumentSummarizationTask",
    "Pooled",
    "PyramidionError",
    "PyramidionModel",
    "__version__",
    "successive_halving_topk",
]
