"""Documents that lie on several ranks, as attention needs to know."""

from __future__ import annotations

from typing import NamedTuple

from .group import SequenceGroup
from .parts import Parts


class TokenShards(NamedTuple):
    """Where the tokens are that a layer reads, for attention that looks beyond its rank's part."""

    group: SequenceGroup
    parts: Parts
