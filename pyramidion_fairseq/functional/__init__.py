"""Pure functions on batch-first tensors; ``reference`` holds their slow, obvious counterparts."""

from .blocks import join_blocks, split_blocks
from .padding import move_padding_right
from .partition import partition_sum
from .successive_halving import Pooled, keep_all, successive_halving_topk

__all__ = [
    "Pooled",
    "join_blocks",
    "keep_all",
    "move_padding_right",
    "partition_sum",
    "split_blocks",
    "successive_halving_topk",
]
