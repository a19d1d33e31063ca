"""Tests of the style of functional/ and attention/: one assignment a line, docstrings with verbs, plain terms."""

import ast
import re
from pathlib import Path

import pytest

import pyramidion_fairseq

ROOT = Path(pyramidion_fairseq.__file__).parent
FILES = [path for folder in ("functional", "attention") for path in sorted((ROOT / folder).rglob("*.py"))]


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_tuple_assignments_hold_values_of_one_kind(path):
    """Check that a line assigns several values only if these differ in nothing but names and numbers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else []
            forms = {re.sub(r"\w+", "x", ast.unparse(value)) for value in values}
            nested = any(isinstance(target, ast.Tuple) for target in node.targets[0].elts)
            assert len(forms) <= 1 and not nested, f"line {node.lineno}: {ast.unparse(node)}"


#: First words of a docstring that are not verbs.
NO_VERBS = re.compile(
    "A|All|An|Arguments|As|At|Both|Chunks|Each|Every|Half|How|I[fnt]|Its|Means|Most|No|None|Normal|Nothing|O[fn]|One|"
    "Probability|Slots?|So|Some|Such|Sums|Th[a-z]+|Tokens?|Two|Wh[a-z]+|Windows?|With"
)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_public_functions_have_docstrings_that_start_with_a_verb(path):
    """Check that docstrings of functions start with a verb, and that public functions of modules have one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        text = ast.get_docstring(function)
        if text is not None:
            first = re.match(r"[A-Z][a-z]+\b", text)
            assert first and not NO_VERBS.fullmatch(first.group()), f"{function.name}: {text.splitlines()[0]}"
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"):
        assert ast.get_docstring(function), function.name


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "functional" / "csrc").iterdir())], ids=name)
def test_sources_use_terms_of_the_glossary_instead_of_place(path):
    """Check for padded_length, member index, position or slot (docs/glossary.md); torch's "in place" is allowed."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<!in )\bplaces?\b", text), [x for x in text.splitlines() if re.search(r"\bplaces?\b", x)]


def test_mypy_overrides_do_not_relax_functional_and_attention():
    """Check pyproject.toml: no override ignores errors here, and only Triton's kernels need no annotations."""
    overrides = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8").split("[[tool.mypy.overrides]]")[1:]
    ignored = [section for section in overrides if "ignore_errors" in section]
    assert not any(re.search(r"pyramidion_fairseq\.(functional|attention)\b", section) for section in ignored)
    (unannotated,) = (section for section in overrides if "disallow_untyped_defs" in section)
    assert all("triton" in module for module in re.findall(r'"(pyramidion_fairseq[\w.*]*)"', unannotated))
