"""Token scorers, which rate how useful each representation is."""

from ..registry import import_variants
from .base import EPSILON, SCORERS, TokenScorer

import_variants(__name__, __path__)

__all__ = ["EPSILON", "SCORERS", "TokenScorer"]
