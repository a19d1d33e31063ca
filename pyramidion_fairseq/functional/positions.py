"""Fixed positional embeddings of PEGASUS."""

from __future__ import annotations

import torch
from torch import Tensor


def pegasus_positions(positions: Tensor, dim: int) -> Tensor:
    """Return the sinusoidal positional embeddings of PEGASUS (Zhang et al. 2020).

    Coordinate j has the wavelength ``10000 ** (2 * (j // 2) / dim)``. The sines come first, then the cosines.
    fairseq's sinusoidal embeddings use other wavelengths and count positions from 2.

    Args:
        positions: (...,) integer positions, counted from 0.
        dim: width of the embeddings.

    Returns:
        (..., dim) float32, computed in float64.
    """
    pair = torch.arange(dim, device=positions.device, dtype=torch.float64) // 2
    angles = positions.unsqueeze(-1).double() / 10000 ** (2 * pair / dim)
    return torch.cat([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).float()
