"""Sharded documents, as seen by attention layers."""

from __future__ import annotations

from typing import NamedTuple

from .group import SequenceGroup
from .parts import Parts


class TokenShards(NamedTuple):
    """Location of the tokens that a layer reads, for attention beyond this rank's part."""

    group: SequenceGroup
    parts: Parts
