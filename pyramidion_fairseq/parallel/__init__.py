"""Documents that lie on several devices: where their parts are, and what the devices tell each other."""

from .group import SequenceGroup, sequence_group
from .parts import Parts
from .shards import TokenShards
from .traffic import bytes_of_pooling, bytes_of_ring_attention

__all__ = ["Parts", "SequenceGroup", "TokenShards", "bytes_of_pooling", "bytes_of_ring_attention", "sequence_group"]
