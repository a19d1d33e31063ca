"""Several linear layers with the same input, computed as one product where that starts fewer kernels."""

from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def project_together(x: Tensor, layers: Sequence[nn.Linear]) -> tuple[Tensor, ...]:
    """Apply linear layers to the same input.

    On a GPU it is one product with their weights beside each other, and one for the gradient of each side. On a CPU
    every layer is called: there a kernel costs little to start, and the copy of the weights would cost more. Layers of
    other classes (quantised ones, for instance), and layers with hooks, are called, too.

    Args:
        x: (..., C).
        layers: with C features in, all with a bias or all without.

    Returns:
        For each layer (..., its features out): parts of one tensor where it was one product.
    """
    plain = all(type(layer) is nn.Linear and not _is_watched(layer) for layer in layers)
    if x.device.type == "cpu" or not plain:
        return tuple(layer(x) for layer in layers)
    return joint_product(x, layers)


def joint_product(x: Tensor, layers: Sequence[nn.Linear]) -> tuple[Tensor, ...]:
    """Apply linear layers by one product with their weights beside each other; see :func:`project_together`."""
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return F.linear(x, weight, bias).split([layer.out_features for layer in layers], dim=-1)


def _is_watched(layer: nn.Module) -> bool:
    """Return whether a hook needs the layer itself to be called."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return any(hooks)
