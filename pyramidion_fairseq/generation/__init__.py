"""Token-by-token generation. Hypotheses of a document share its keys and values, and no cache is copied."""

from .cuda_graph import GraphedStep, supports_cuda_graphs
from .decode_step import decode_step, new_decoding_state, unsupported_reason
from .encoder_output import DOCUMENT_INDEX
from .hypotheses import Grouping, regroup, repeated
from .kv_cache import DecodingState
from .lengths import check_lengths, fit_lengths, one_line_about_lengths
from .scored_attention import ScoredDecoderLayer
from .switches import cuda_graphs, plain_generation, set_cuda_graphs, set_plain_generation

__all__ = [
    "DOCUMENT_INDEX",
    "DecodingState",
    "GraphedStep",
    "Grouping",
    "ScoredDecoderLayer",
    "check_lengths",
    "cuda_graphs",
    "decode_step",
    "fit_lengths",
    "new_decoding_state",
    "one_line_about_lengths",
    "plain_generation",
    "regroup",
    "repeated",
    "set_cuda_graphs",
    "set_plain_generation",
    "supports_cuda_graphs",
    "unsupported_reason",
]
