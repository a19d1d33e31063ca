"""Tests that the code keeps the rules of ``scripts/house.py``, with the exceptions below.

An exception that is no longer needed fails its test as well, so that the lists only become shorter.
"""

import ast
import importlib.util
import re
import textwrap

import pytest

from tests.helpers.paths import ROOT

SPEC = importlib.util.spec_from_file_location("house", ROOT / "scripts" / "house.py")
house = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(house)

#: Exceptions that are still to be mended.
EXCEPTIONS: dict[str, set[str]] = {
    "functions over 60 lines": set(),
    "files over 350 lines": set(),
    "unannotated functions": set(),
    "private words": set(),
}

#: {file: text} that breaks every rule, and what is found there, by rule.
BROKEN = {
    "pyramidion_fairseq/__init__.py": "",
    "pyramidion_fairseq/a.py": "def long() -> None:\n"
    + "    pass\n" * 60
    + "def lazy() -> None:\n    from . import b\n",
    "pyramidion_fairseq/b.py": 'from .a import long\ndef bare(*given) -> None:\n    """The bare one."""\n'
    "def result(n: int): ...\n",
    "pyramidion_fairseq/types.py": "if TYPE_CHECKING:\n    from . import user\ndef fine(self, n: int) -> None: ...\n",
    "pyramidion_fairseq/user.py": "from . import types\n",
    "pyramidion_fairseq/c.cpp": "// \n" * 351 + "int owners = draw(1);\n",
    "benchmarks/a.py": "parser.add_argument('-n', '--bare', type=int)\nparser.add_argument('folder')\n"
    "parser.add_argument('--fine', help='what it does')\n",
    "tests/folder/test_it.py": "from tests.conftest import ROOT\nfrom ..test_other import x\nimport os\n",
}
FOUND = {
    "functions over 60 lines": ["pyramidion_fairseq/a.py:long"],
    "files over 350 lines": ["pyramidion_fairseq/c.cpp"],
    "unannotated functions": ["pyramidion_fairseq/b.py:bare", "pyramidion_fairseq/b.py:result"],
    "docstrings without a verb": ["pyramidion_fairseq/b.py:bare"],
    "import circles": ["pyramidion_fairseq.a pyramidion_fairseq.b"],
    "test-to-test imports": ["tests/folder/test_it.py: tests.conftest", "tests/folder/test_it.py: tests.test_other"],
    "private words": ["pyramidion_fairseq/c.cpp: draw", "pyramidion_fairseq/c.cpp: owners"],
    "flags without help": ["benchmarks/a.py: --bare"],
}


def test_every_broken_rule_is_found(tmp_path, monkeypatch):
    for name, text in BROKEN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(house, "ROOT", tmp_path)
    assert {rule: list(count()) for rule, count in house.COUNTS.items()} == FOUND


@pytest.mark.parametrize("rule", house.COUNTS)
def test_code_breaks_no_rule_but_for_the_listed_exceptions(rule):
    found, excepted = set(house.COUNTS[rule]()), EXCEPTIONS.get(rule, set())
    assert not found - excepted, f"{rule}: mend these"
    assert not excepted - found, f"{rule}: take these off the exceptions, they are mended"


def test_imports_between_parts_match_the_architecture_page():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("| folder | what is there | builds on |") : page.index("## One document through training")]
    cells = [row.split("|")[1:4] for row in table.splitlines()[2:] if row]
    rows = [[re.findall(r"`([\w/.]+)`", cell) for cell in row] for row in cells]
    imports = house.imports_of_parts()
    imports = {part: names for part, names in imports.items() if part not in ("__init__.py", "apps")}
    assert sorted(imports) == sorted(part for parts, _, _ in rows for part in parts)
    base, above = set(rows[0][0]), set()
    for parts, _, named in rows:
        built_on = set().union(*(imports[part] for part in parts)) - set(parts)
        assert built_on - base == set(named) & set(imports), parts
        assert built_on <= above, f"{parts} build on what is below them"
        above |= set(parts)


def test_every_module_that_registers_with_fairseq_is_imported():
    """Check imports by the package itself, as fairseq imports the files of a --user-dir but not otherwise."""
    files = {house._module(path): path for path in house._files(house.PACKAGE)}
    imports = {module: house._imported(path) & files.keys() for module, path in files.items()}
    reached = house._reachable("pyramidion_fairseq.registered", imports)
    registering = [m for m, path in files.items() if re.search(r"^@register_\w+\(", path.read_text("utf-8"), re.M)]
    forgotten = sorted(set(registering) - reached)
    assert len(registering) >= 4 and not forgotten, "import these in their folder's __init__.py"


def test_code_examples_of_the_pages_are_annotated():
    found = []
    for page in ("CONTRIBUTING.md", "docs/adding-a-scorer.md"):
        for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S):
            tree = ast.parse(textwrap.dedent(block) if "def " in block else "")
            found += [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert len(found) > 5 and [node.name for node in found if not house.is_annotated(node)] == []


@pytest.mark.parametrize("name", ["check.txt", "longest.txt"])
def test_files_listed_for_make_check_and_make_test_exist(name):
    """Check the files that `make check` runs and those with which `make test` begins."""
    listed = (ROOT / "tests" / name).read_text(encoding="utf-8").split()
    assert listed == sorted(set(listed), key=listed.index) and len(listed) > 20
    assert [path for path in listed if not (ROOT / path).exists()] == []
