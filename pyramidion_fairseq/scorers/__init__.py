"""Token scorers: how useful is each representation?"""

from ..registry import import_variants
from .base import EPSILON, SCORERS, TokenScorer

import_variants(__name__, __path__)

__all__ = ["EPSILON", "SCORERS", "TokenScorer"]
