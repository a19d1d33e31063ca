"""Linear layers on the few rows that one step of generation has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Rows for which oneDNN was measured to be faster; fewer are nearly a product of matrix and vector.
FEW_ROWS = range(4, 65)


def _through_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _onednn_works() -> bool:
    """Return whether this build of torch has oneDNN's linear layer, and it computes one."""
    x, weight, bias = torch.ones(4, 2), torch.ones(3, 2), torch.ones(3)
    try:
        return torch.equal(_through_onednn(x, weight, bias), torch.full((4, 3), 3.0))
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False


HAS_ONEDNN = _onednn_works()


def few_rows_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Return ``layer(x)`` for (R, C) x; float32 on a CPU through oneDNN, which reads the weight once.

    MKL, which torch takes for float32, first copies the weight into another order, at every call: 1.2 to 1.6 times
    the time at 4 to 16 rows. Nothing is packed or kept, so that weights may change at any time.
    """
    if (
        HAS_ONEDNN
        and len(x) in FEW_ROWS
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
        and not torch.is_grad_enabled()
    ):
        return _through_onednn(x, layer.weight, layer.bias)
    return F.linear(x, layer.weight, layer.bias)
