"""The code of functional/ and attention/ reads as the rest of the field's does: one assignment a line, plain words."""

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
def test_one_assignment_a_line(path):
    """But for things of the same kind, whose values differ in names and numbers only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else []
            forms = {re.sub(r"\w+", "x", ast.unparse(value)) for value in values}
            nested = any(isinstance(target, ast.Tuple) for target in node.targets[0].elts)
            assert len(forms) <= 1 and not nested, f"line {node.lineno}: {ast.unparse(node)}"


#: First words of a docstring that are no verbs.
NO_VERBS = re.compile(
    "A|All|An|Arguments|As|At|Both|Chunks|Each|Every|Half|How|I[fnt]|Its|Means|Most|No|None|Normal|Nothing|O[fn]|One|"
    "Probability|Slots?|So|Some|Such|Sums|Th[a-z]+|Tokens?|Two|Wh[a-z]+|Windows?|With"
)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_functions_say_what_they_do(path):
    """Their docstrings begin with a verb, and every function that others may call has one, but overriding methods."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        text = ast.get_docstring(function)
        if text is not None:
            first = re.match(r"[A-Z][a-z]+\b", text)
            assert first and not NO_VERBS.fullmatch(first.group()), f"{function.name}: {text.splitlines()[0]}"
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"):
        assert ast.get_docstring(function), function.name


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "functional" / "csrc").iterdir())], ids=name)
def test_a_place_is_called_by_what_it_is(path):
    """padded_length, member index, position, slot (docs/glossary.md); "in place" is what torch calls so."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<!in )\bplaces?\b", text), [x for x in text.splitlines() if re.search(r"\bplaces?\b", x)]


def test_types_are_checked():
    """mypy is strict about all of these files; Triton's kernels alone need no annotations."""
    overrides = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8").split("[[tool.mypy.overrides]]")[1:]
    ignored = [section for section in overrides if "ignore_errors" in section]
    assert not any(re.search(r"pyramidion_fairseq\.(functional|attention)\b", section) for section in ignored)
    (unannotated,) = (section for section in overrides if "disallow_untyped_defs" in section)
    assert all("triton" in module for module in re.findall(r'"(pyramidion_fairseq[\w.*]*)"', unannotated))
