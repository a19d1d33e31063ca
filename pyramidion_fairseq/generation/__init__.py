"""Writing summaries token by token: documents are read once for all of their hypotheses, and no cache is copied."""

from .hypotheses import OWNERS, Grouping, regroup, repeated
from .lengths import check_lengths, clear_lengths
from .recording import RecordedStep, recordable
from .state import DecodingState
from .step import decode_step, obstacle, start
from .switches import cuda_graphs, plain_generation, set_cuda_graphs, set_plain_generation

__all__ = [
    "OWNERS",
    "DecodingState",
    "Grouping",
    "RecordedStep",
    "check_lengths",
    "clear_lengths",
    "cuda_graphs",
    "decode_step",
    "obstacle",
    "plain_generation",
    "recordable",
    "regroup",
    "repeated",
    "set_cuda_graphs",
    "set_plain_generation",
    "start",
]
