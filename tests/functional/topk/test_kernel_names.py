"""Triton kernels are written as their readers expect it: names, and arguments by kind."""

import ast
import re
from pathlib import Path

import pytest

import pyramidion_fairseq.functional.topk

FILES = sorted(Path(pyramidion_fairseq.functional.topk.__file__).parent.glob("*triton*.py"))


def kernels(path, launched=False):
    """Functions that Triton compiles; of those, the ones that are launched."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        is_compiled = isinstance(node, ast.FunctionDef) and "triton.jit" in map(ast.unparse, node.decorator_list)
        if is_compiled and (node.name.endswith("_kernel") or not launched):
            yield node


def kind(argument):
    """0 to 3: a pointer, a stride, a size or another number, a constant."""
    if argument.annotation is not None and ast.unparse(argument.annotation) == "tl.constexpr":
        return 3
    return 0 if argument.arg.endswith("_ptr") else 1 if argument.arg.startswith("stride_") else 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_arguments_come_by_kind_and_have_the_names_of_the_trade(path):
    for kernel in kernels(path, launched=True):
        arguments = kernel.args.args
        kinds = [kind(argument) for argument in arguments]
        assert kinds == sorted(kinds), f"{kernel.name}: pointers, strides, sizes, constants"
        assert kinds[0] == 0
        assert all(argument.arg.isupper() == (kind(argument) == 3) for argument in arguments), kernel.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_memory_is_reached_through_pointers_and_programs_are_pids(path):
    for kernel in kernels(path):
        for node in ast.walk(kernel):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("tl.load", "tl.store"):
                names = {name.id for name in ast.walk(node.args[0]) if isinstance(name, ast.Name)}
                assert sum(name.endswith("_ptr") for name in names) == 1, ast.unparse(node)
            if isinstance(node, ast.Assign) and "tl.program_id" in ast.unparse(node.value):
                assert ast.unparse(node.targets[0]).startswith("pid_"), ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_loads_have_a_comment_with_their_shape(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    for kernel in kernels(path):
        body = "\n".join(lines[kernel.lineno - 1 : kernel.end_lineno])
        is_helper = "tl.arange" not in body and "BLOCK_" not in body  # which knows no shape
        assert is_helper or body.count("tl.load(") == 0 or re.search(r"# \(BLOCK_\w+,.* of \(B", body), kernel.name
