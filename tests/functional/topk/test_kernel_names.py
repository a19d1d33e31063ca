"""Tests of conventions in the sources of Triton kernels: names, order of arguments, comments with shapes."""

import ast
import re
from pathlib import Path

import pytest

import pyramidion_fairseq.functional.topk

FILES = sorted(Path(pyramidion_fairseq.functional.topk.__file__).parent.glob("*triton*.py"))


def kernels(path, launched=False):
    """Yield the functions that Triton compiles, or only those that are launched."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        is_compiled = isinstance(node, ast.FunctionDef) and "triton.jit" in map(ast.unparse, node.decorator_list)
        if is_compiled and (node.name.endswith("_kernel") or not launched):
            yield node


def kind(argument):
    """Return 0 for a pointer, 1 for a stride, 2 for a size or another number, 3 for a constant."""
    if argument.annotation is not None and ast.unparse(argument.annotation) == "tl.constexpr":
        return 3
    return 0 if argument.arg.endswith("_ptr") else 1 if argument.arg.startswith("stride_") else 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_kernel_arguments_are_ordered_by_kind_and_named_by_convention(path):
    for kernel in kernels(path, launched=True):
        arguments = kernel.args.args
        kinds = [kind(argument) for argument in arguments]
        assert kinds == sorted(kinds), f"{kernel.name}: pointers, strides, sizes, constants"
        assert kinds[0] == 0
        assert all(argument.arg.isupper() == (kind(argument) == 3) for argument in arguments), kernel.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_kernels_access_memory_by_ptr_arguments_and_name_program_ids_pid(path):
    for kernel in kernels(path):
        for node in ast.walk(kernel):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("tl.load", "tl.store"):
                names = {name.id for name in ast.walk(node.args[0]) if isinstance(name, ast.Name)}
                assert sum(name.endswith("_ptr") for name in names) == 1, ast.unparse(node)
            if isinstance(node, ast.Assign) and "tl.program_id" in ast.unparse(node.value):
                assert ast.unparse(node.targets[0]).startswith("pid_"), ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_kernels_with_loads_have_a_comment_with_the_shape(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    for kernel in kernels(path):
        body = "\n".join(lines[kernel.lineno - 1 : kernel.end_lineno])
        is_helper = "tl.arange" not in body and "BLOCK_" not in body  # a helper knows no shape
        assert is_helper or body.count("tl.load(") == 0 or re.search(r"# \(BLOCK_\w+,.* of \(B", body), kernel.name
