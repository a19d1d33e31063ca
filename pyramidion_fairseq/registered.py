"""Registers everything with fairseq on import. Imported by ``import pyramidion_fairseq``."""

from .utils import quiet, requirements
from .utils.imported_later import metrics_imported_later

requirements.check_versions()  # first, because other imports would fail with less helpful errors

with quiet.unconfigured_logging(), metrics_imported_later():
    from .compat import patches
    from .criterions import ChunkedCrossEntropyCriterion
    from .functional import Pooled, successive_halving_topk
    from .inference.loading import load_summarizer
    from .interop import bart, roberta
    from .models import PyramidionModel
    from .models.roberta import LSGRobertaModel
    from .optim import FusedAdamW
    from .scoring.fairseq_scorer import RougeScorer
    from .tasks import LongDocumentSummarizationTask

    PyramidionModel.load_summarizer = staticmethod(load_summarizer)
    PyramidionModel._adapt_state = staticmethod(bart.adapt_state)
    LSGRobertaModel._adapt_state = staticmethod(roberta.adapt_state)
    patches.install()

__all__ = [
    "ChunkedCrossEntropyCriterion",
    "FusedAdamW",
    "LongDocumentSummarizationTask",
    "Pooled",
    "PyramidionModel",
    "RougeScorer",
    "successive_halving_topk",
]
