"""Embedding tokens from the middle of a document with an encoder of fairseq."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .positions import PegasusPositions


def embed_later_tokens(encoder: Any, tokens: Tensor, token_embeddings: Tensor | None, start: int) -> Tensor:
    """Embed tokens from the middle of a document, like ``forward_embedding`` of fairseq's encoder.

    Args:
        encoder: encoder of fairseq.
        tokens: (B, W) ids, padding on the right.
        token_embeddings: (B, W, C) replacement for the embeddings of the tokens, or None.
        start: position of the first token in its document.

    Returns:
        (B, W, C).
    """
    x = encoder.embed_scale * (encoder.embed_tokens(tokens) if token_embeddings is None else token_embeddings)
    module = encoder.embed_positions
    if module is not None:
        first = module.padding_idx + 1 + start
        positions = torch.arange(first, first + tokens.size(1), device=tokens.device)
        positions = torch.where(tokens.eq(module.padding_idx), module.padding_idx, positions)
        if isinstance(module, PegasusPositions):
            x = x + module.first_positions(start + tokens.size(1))[start:]
        elif isinstance(module, nn.Embedding):
            x = x + F.embedding(positions, module.weight, module.padding_idx)
        else:
            if first + tokens.size(1) > module.weights.size(0):
                module.weights = module.get_embedding(
                    first + tokens.size(1), module.embedding_dim, module.padding_idx
                ).to(module.weights)
            x = x + module.weights[positions]
    if encoder.layernorm_embedding is not None:
        x = encoder.layernorm_embedding(x)
    x = encoder.dropout_module(x)
    return x if encoder.quant_noise is None else encoder.quant_noise(x)
