"""All families by their names in commands, which are those of config.json."""

from __future__ import annotations

from .bart import Bart
from .base import Family
from .bigbird_pegasus import BigBirdPegasus
from .led import Led
from .mbart import MBart
from .pegasus import Pegasus

FAMILIES: dict[str, Family] = {
    family.model_type: family for family in (Bart(), MBart(), Pegasus(), Led(), BigBirdPegasus())
}
