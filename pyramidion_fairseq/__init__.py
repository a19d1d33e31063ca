"""pyramidion_fairseq: summarisation of long documents with trainable representation pooling.

``fairseq-train --user-dir pyramidion_fairseq`` imports this file, which registers everything with fairseq.
"""

from . import quiet, requirements

requirements.check()  # before anything else is imported, which would fail with an error that says less

with quiet.unconfigured_logging():
    from . import checkpoints, compat
    from .criterions import ChunkedCrossEntropyCriterion
    from .errors import PyramidionError, install_excepthook
    from .functional import Pooled, successive_halving_topk
    from .models import PyramidionModel
    from .optim import FusedAdamW
    from .scoring import RougeScorer
    from .tasks import LongDocumentSummarizationTask, diagnosis
    from .version import __version__

    compat.install()
    checkpoints.install()
    diagnosis.install()
    install_excepthook()

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
