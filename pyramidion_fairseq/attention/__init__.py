"""Self-attention variants of the encoder."""

from ..registry import import_variants
from .base import ATTENTIONS, EncoderAttention

import_variants(__name__, __path__)

__all__ = ["ATTENTIONS", "EncoderAttention"]
