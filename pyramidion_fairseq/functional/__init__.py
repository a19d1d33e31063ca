"""Pure functions on batch-first tensors; ``reference`` holds their slow, obvious counterparts."""

from .blocks import join_blocks, split_blocks
from .efficient import efficient_attention
from .lsg import lsg_attention
from .lsh import lsh_attention, lsh_buckets
from .neighbourhood import masked_attention, neighbours, visible_tokens, window_attention
from .padding import move_padding_right
from .partition import partition_sum
from .successive_halving import Pooled, keep_all, successive_halving_topk

__all__ = [
    "Pooled",
    "efficient_attention",
    "join_blocks",
    "keep_all",
    "lsg_attention",
    "lsh_attention",
    "lsh_buckets",
    "masked_attention",
    "move_padding_right",
    "neighbours",
    "partition_sum",
    "split_blocks",
    "successive_halving_topk",
    "visible_tokens",
    "window_attention",
]
