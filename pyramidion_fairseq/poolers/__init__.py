"""Poolers, which reduce n scored representations to k."""

from ..registry import import_variants
from .base import POOLERS, Pooler

import_variants(__name__, __path__)

__all__ = ["POOLERS", "Pooler"]
