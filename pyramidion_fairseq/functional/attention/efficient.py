"""Efficient attention (Shen et al. 2021, "Efficient Attention: Attention with Linear Complexities")."""

from __future__ import annotations

import torch
from torch import Tensor


def efficient_attention(query: Tensor, key: Tensor, value: Tensor, padding_mask: Tensor | None = None) -> Tensor:
    """Return rho_q(Q) (rho_k(K)^T V), section 3.2, Eq. 3-5.

    rho_q is a softmax over features, rho_k a softmax over positions. Linear in T: each head holds one D x D matrix per
    document. The softmax normalisation of the paper has no 1/sqrt(D), and there are no attention weights to drop out.

    Args:
        query, key, value: (B, T, H, D).
        padding_mask: (B, T) bool, True on padding, or None.

    Returns:
        (B, T, H, D), in the dtype of ``value``; rows at padding are finite but arbitrary.
    """
    exact = torch.promote_types(query.dtype, torch.float32)
    if padding_mask is not None:
        # finfo.min instead of -inf keeps documents that are only padding finite.
        key = key.masked_fill(padding_mask[:, :, None, None], torch.finfo(key.dtype).min)
    rho_q = query.softmax(dim=-1, dtype=exact).to(value.dtype)
    rho_k = key.softmax(dim=1, dtype=exact).to(value.dtype)
    context = torch.einsum("bthd,bthe->bhde", rho_k, value)
    return torch.einsum("bthd,bhde->bthe", rho_q, context)
