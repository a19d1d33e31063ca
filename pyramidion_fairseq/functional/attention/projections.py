"""Several linear layers with the same input, computed as one matrix product where this launches fewer kernels."""

from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def project_together(x: Tensor, layers: Sequence[nn.Linear]) -> tuple[Tensor, ...]:
    """Apply several linear layers to the same input.

    On a GPU this is one product with the concatenated weights, and one product for each gradient. On a CPU each layer
    is called, because launching a kernel is cheap and concatenating the weights would cost more. Layers of other
    classes (quantised ones, for instance) and layers with hooks are also called.

    Args:
        x: (..., C).
        layers: linear layers with C input features, all with a bias or all without.

    Returns:
        (..., output features) for each layer. The outputs of a joint product are views of one tensor.
    """
    plain = all(type(layer) is nn.Linear and not _has_hooks(layer) for layer in layers)
    if x.device.type == "cpu" or not plain:
        return tuple(layer(x) for layer in layers)
    return joint_product(x, layers)


def joint_product(x: Tensor, layers: Sequence[nn.Linear]) -> tuple[Tensor, ...]:
    """Apply linear layers by one product with their concatenated weights; see :func:`project_together`."""
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return F.linear(x, weight, bias).split([layer.out_features for layer in layers], dim=-1)


def _has_hooks(layer: nn.Module) -> bool:
    """Return whether a layer has hooks, which run only if the layer itself is called."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return any(hooks)
