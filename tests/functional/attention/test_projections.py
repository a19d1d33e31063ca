"""Tests of linear layers that read the same input."""

import pytest
import torch
from torch import nn

from pyramidion_fairseq.functional.attention.projections import joint_product, project_together
from tests.helpers import counting


@pytest.mark.parametrize("bias", [True, False])
def test_joint_product_equals_separate_projections(bias):
    torch.manual_seed(0)
    layers = [nn.Linear(6, features, bias=bias).double() for features in (6, 2, 4)]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    results = []
    for apply in (lambda: project_together(x, layers), lambda: joint_product(x, layers)):
        out = apply()
        loss = sum((part * (number + 1)).square().sum() for number, part in enumerate(out))
        results.append([*out, *torch.autograd.grad(loss, [x, *parameters])])
    for expected, found in zip(*results):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def products(layers, device):
    with counting.Operations() as operations, torch.no_grad():
        project_together(torch.zeros(3, 6, device=device), layers)
    return operations.kernels["addmm"]


def test_project_together_multiplies_separately_on_a_cpu_or_with_hooks():
    layers = [nn.Linear(6, 4) for _ in range(3)]
    assert products(layers, "cpu") == 3
    layers = [layer.to("meta") for layer in layers]
    assert products(layers, "meta") == 1
    calls = []
    layers[1].register_forward_hook(lambda *_: calls.append(1))
    assert products(layers, "meta") == 3 and calls
