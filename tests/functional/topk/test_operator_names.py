"""Tests of the namespaces of custom operators: valid in torch, and different for each copy of a file."""

import torch

from pyramidion_fairseq.functional.topk.operator_names import namespace_of

FOLDERS = ["my model", "my_model", "my@model", "mod\u00e8le", "\u043c\u043e\u0434\u0435\u043b\u044c", "\u6a21\u578b"]


def test_namespaces_are_unique_and_accepted_by_torch():
    found = [namespace_of(f"transformers_modules.{folder}.topk") for folder in FOLDERS]
    assert len(set(found)) == len(FOLDERS)
    for namespace in found:
        operator = torch.library.custom_op(
            f"{namespace}::twice", lambda x: 2 * x, mutates_args=(), schema="(Tensor x) -> Tensor"
        )
        operator.register_fake(torch.empty_like)
        assert operator(torch.ones(1)).item() == 2


def test_namespace_of_the_package_is_its_module_path_with_underscores():
    assert namespace_of("pyramidion_fairseq.functional.topk.x") == "pyramidion_fairseq_functional_topk_x"
