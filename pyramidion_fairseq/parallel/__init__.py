"""Documents sharded over several devices: their parts, and the communication between devices."""

from .group import SequenceGroup, sequence_group
from .parts import Parts
from .shards import TokenShards
from .traffic import bytes_of_pooling, bytes_of_ring_attention

__all__ = ["Parts", "SequenceGroup", "TokenShards", "bytes_of_pooling", "bytes_of_ring_attention", "sequence_group"]
