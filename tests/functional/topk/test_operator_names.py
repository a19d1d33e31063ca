"""Namespaces of custom operators: what torch takes, and one for each copy of a file."""

import torch

from pyramidion_fairseq.functional.topk.operator_names import namespace_of

FOLDERS = ["my model", "my_model", "my@model", "mod\u00e8le", "\u043c\u043e\u0434\u0435\u043b\u044c", "\u6a21\u578b"]


def test_torch_takes_them_and_no_two_are_the_same():
    found = [namespace_of(f"transformers_modules.{folder}.topk") for folder in FOLDERS]
    assert len(set(found)) == len(FOLDERS)
    for namespace in found:
        operator = torch.library.custom_op(
            f"{namespace}::twice", lambda x: 2 * x, mutates_args=(), schema="(Tensor x) -> Tensor"
        )
        operator.register_fake(torch.empty_like)
        assert operator(torch.ones(1)).item() == 2


def test_of_the_package_itself_they_are_as_ever():
    assert namespace_of("pyramidion_fairseq.functional.topk.x") == "pyramidion_fairseq_functional_topk_x"
