"""pyramidion_fairseq: summarisation of long documents with trainable representation pooling.

``fairseq-train --user-dir pyramidion_fairseq`` imports this file, which registers everything with fairseq.
"""

from . import requirements

requirements.check()  # before anything else is imported, which would fail with an error that says less

from . import checkpoints, compat  # noqa: E402
from .errors import PyramidionError, install_excepthook  # noqa: E402
from .functional import Pooled, successive_halving_topk  # noqa: E402
from .models import PyramidionModel  # noqa: E402
from .optim import FusedAdamW  # noqa: E402
from .scoring import RougeScorer  # noqa: E402
from .tasks import LongDocumentSummarizationTask, diagnosis  # noqa: E402
from .version import __version__  # noqa: E402

compat.install()
checkpoints.install()
diagnosis.install()
install_excepthook()

__all__ = [
    "FusedAdamW",
    "LongDocumentSummarizationTask",
    "Pooled",
    "PyramidionError",
    "PyramidionModel",
    "RougeScorer",
    "__version__",
    "successive_halving_topk",
]
