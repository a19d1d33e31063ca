"""Efficient attention (Shen et al. 2021, "Efficient Attention: Attention with Linear Complexities")."""

from __future__ import annotations

import torch
from torch import Tensor


def efficient_attention(query: Tensor, key: Tensor, value: Tensor, padding_mask: Tensor | None = None) -> Tensor:
    """Return rho_q(Q) (rho_k(K)^T V), section 3.2, Eq. 3-5.

    rho_q is a softmax over features, rho_k over positions.
    Linear in T: each head keeps D x D numbers about the document. The paper's softmax normalisation has no
    1/sqrt(D), and nothing that dropout of attention weights could act on.

    Args:
        query, key, value: (B, T, H, D).
        padding_mask: (B, T) bool, True on padding, or None.

    Returns:
        (B, T, H, D), dtype of ``value``; rows of padding are finite and otherwise without meaning.
    """
    exact = torch.promote_types(query.dtype, torch.float32)
    if padding_mask is not None:
        # finfo.min, not -inf: a row of padding alone stays finite.
        key = key.masked_fill(padding_mask[:, :, None, None], torch.finfo(key.dtype).min)
    rho_q = query.softmax(dim=-1, dtype=exact).to(value.dtype)
    rho_k = key.softmax(dim=1, dtype=exact).to(value.dtype)
    context = torch.einsum("bthd,bthe->bhde", rho_k, value)
    return torch.einsum("bthd,bhde->bthe", rho_q, context)
