"""Pure functions on batch-first tensors. ``reference`` holds a slow, straightforward counterpart of each."""

from .attention.block_attention import block_attention
from .attention.blocks import join_blocks, split_blocks
from .attention.dot_product import dot_product_attention
from .attention.efficient import efficient_attention
from .attention.lsg import lsg_attention
from .attention.lsh import lsh_attention, lsh_buckets
from .attention.neighbourhood import key_mask_of, masked_attention, neighbours, window_attention
from .dropout import dropout, relu_dropout
from .padding import move_padding_right, token_positions
from .pointer import (
    CopySource,
    copy_attention,
    copy_distribution,
    copy_probability,
    histories,
    mix_log_probabilities,
    mix_token_copies,
    token_copies,
    writing_gate,
)
from .topk.grouping import boundary_chunks, merge_similar
from .topk.partial_sums import partial_slot_sums
from .topk.partition import partition_sum
from .topk.perturbed import perturbed_topk
from .topk.provenance import (
    TokenRecord,
    attention_to_tokens,
    compose_poolings,
    keep_record,
    pool_by_record,
    sum_by_group,
)
from .topk.relaxations import gumbel_topk, iterative_topk, sinkhorn_topk
from .topk.selection import hard_topk
from .topk.successive_halving import Pooled, keep_all, successive_halving_topk
from .topk.threshold import threshold_topk
from .topk.window_pooling import max_windows, mean_windows, repeat_slots, window_size

__all__ = [
    "CopySource",
    "Pooled",
    "TokenRecord",
    "attention_to_tokens",
    "block_attention",
    "boundary_chunks",
    "compose_poolings",
    "copy_attention",
    "copy_distribution",
    "copy_probability",
    "dot_product_attention",
    "dropout",
    "efficient_attention",
    "gumbel_topk",
    "hard_topk",
    "histories",
    "iterative_topk",
    "join_blocks",
    "keep_all",
    "keep_record",
    "key_mask_of",
    "lsg_attention",
    "lsh_attention",
    "lsh_buckets",
    "masked_attention",
    "max_windows",
    "mean_windows",
    "merge_similar",
    "mix_log_probabilities",
    "mix_token_copies",
    "move_padding_right",
    "neighbours",
    "partial_slot_sums",
    "partition_sum",
    "perturbed_topk",
    "pool_by_record",
    "relu_dropout",
    "repeat_slots",
    "sinkhorn_topk",
    "split_blocks",
    "successive_halving_topk",
    "sum_by_group",
    "threshold_topk",
    "token_copies",
    "token_positions",
    "window_attention",
    "window_size",
    "writing_gate",
]
