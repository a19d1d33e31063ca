"""Write docs/paper.md: the statements of the paper with code, tests and numbers; ``--check`` only compares.

The statements are in docs/paper_statements.toml. Their tests are marked with ``@pytest.mark.paper("id")``.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Iterator, NamedTuple

import tomllib

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "docs" / "paper_statements.toml"
TARGET = ROOT / "docs" / "paper.md"
WIDTH = 119
#: Status -> its meaning.
STATUSES = {
    "shown": "a test or a committed measurement shows it",
    "built": "it is in the code, and a test sees that it is; nothing is claimed of its effect",
    "not measured": "only GPUs or the whole corpora could show it; its code is there, and a test sees that it runs",
    "contradicted": "what was counted or measured here is otherwise, or the text contradicts itself",
}
HEAD = """# The paper, statement by statement

Written by `python scripts/write_paper.py` from `docs/paper_statements.toml` and the marks
`@pytest.mark.paper("id")` beside the tests; `tests/test_paper.py` fails where a statement has lost its code or its
tests, or a number is not in the file that it is said to be from.

"Sparsifying Transformer Models with Trainable Representation Pooling", Pietruszka, Borchmann, Garncarek, ACL 2022.
Statements are told in our own words. *Paper* is the published number, *here* the measured or counted one. *Note* is
what was decided where the text is silent, ambiguous or at odds with itself or with the authors' published code, and
what else must be known of a number. The published code is that of `applicaai/pyramidions` and
`applicaai/successive-halving-topk`."""


class Statement(NamedTuple):
    """A row of the page."""

    id: str
    where: str
    """Section, equation, table or figure of the paper."""
    text: str
    """The statement in one sentence."""
    status: str
    """One of :data:`STATUSES`."""
    code: tuple[str, ...]
    """``path::symbol``, or a path where the whole file is meant."""
    published: str = ""
    measured: str = ""
    source: str = ""
    """The file that ``measured`` is from."""
    choice: str = ""


class Section(NamedTuple):
    """A section of the page."""

    title: str
    intro: str
    statements: tuple[Statement, ...]


@cache
def sections() -> tuple[Section, ...]:
    """Read the data file.

    Raises:
        TypeError: a statement lacks a field or has an unknown one.
    """
    data = tomllib.loads(SOURCE.read_text(encoding="utf-8"))
    return tuple(
        Section(part["title"], part["intro"], tuple(_statement(entry) for entry in part["statement"]))
        for part in data["section"]
    )


def _statement(entry: dict) -> Statement:
    return Statement(**{**entry, "code": tuple(entry["code"])})


def statements() -> tuple[Statement, ...]:
    """Return all statements, in the order of the page."""
    return tuple(statement for section in sections() for statement in section.statements)


@cache
def marks() -> dict[str, list[str]]:
    """Return id -> tests ("tests/test_x.py::test_y"), found by parsing the files."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.paper(" not in text:
            continue
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                for name in marked(function):
                    found.setdefault(name, []).append(f"{path.relative_to(ROOT).as_posix()}::{function.name}")
    return found


def marked(function: ast.FunctionDef) -> Iterator[str]:
    """Yield the ids in a test's marks."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.paper":
            yield from (ast.literal_eval(argument) for argument in decorator.args)


def has_symbol(reference: str) -> bool:
    """Return whether the file of "path::symbol" exists and defines the symbol.

    In Python files, a symbol is a function, class, method, field or variable, ``Class.method``, or ``TABLE[key]`` for
    a string in a module's table. In other files, it is a word of the text.
    """
    path, _, symbol = reference.partition("::")
    file = ROOT / path
    if not symbol or not file.is_file():
        return file.exists() and not symbol
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return re.search(rf"(?<!\w){re.escape(symbol)}(?!\w)", text) is not None
    name, _, key = symbol.rstrip("]").partition("[")
    scope: ast.AST | None = ast.parse(text)
    for part in name.split("."):
        scope = next((node for node in getattr(scope, "body", []) if part in defined(node)), None)
    return scope is not None and (not key or any(
        isinstance(node, ast.Constant) and node.value == key for node in ast.walk(scope)
    ))  # fmt: skip


def defined(node: ast.AST) -> set[str]:
    """Return the names that a statement of Python defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {name.id for target in targets if target is not None for name in ast.walk(target)
            if isinstance(name, ast.Name)}  # fmt: skip


def numbers(text: str) -> set[str]:
    """Return the numbers in a text, as written there."""
    return set(re.findall(r"\d+(?:[.,]\d+)*", text))


def link(reference: str) -> str:
    """Return a link to the file of "path::symbol", named by the symbol."""
    path, _, symbol = reference.partition("::")
    target = path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}"
    return f"[`{symbol or path.rpartition('/')[2]}`]({target})"


def row(statement: Statement) -> str:
    """Return a line of the table."""
    tests = marks().get(statement.id, [])
    what = [f"**`{statement.id}`** ({statement.where}) {statement.text}"]
    if statement.choice:
        what.append(f"*Note:* {statement.choice}")
    values = []
    if statement.published:
        values.append(f"*paper:* {statement.published}")
    if statement.measured:
        values.append(f"*here:* {statement.measured} ({link(statement.source)})")
    cells = ["<br>".join(what), ", ".join(map(link, statement.code)), ", ".join(map(link, tests)),
             "<br>".join(values), statement.status]  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def text() -> str:
    """Return the whole page."""
    counts = {status: sum(s.status == status for s in statements()) for status in STATUSES}
    lines = [f"| **{status}** | {counts[status]} | {meaning} |" for status, meaning in STATUSES.items()]
    parts = [HEAD, "\n".join(["| status | statements | meaning |", "|---|---|---|", *lines])]
    for section in sections():
        intro = textwrap.fill(section.intro, WIDTH, break_long_words=False, break_on_hyphens=False)
        table = ["| statement | code | tests | numbers | status |", "|---|---|---|---|---|"]
        parts += [f"## {section.title}", intro, "\n".join([*table, *map(row, section.statements)])]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not up to date")
    check = parser.parse_args().check
    if not check:
        TARGET.write_text(text(), encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text():
        sys.exit(f"error: {TARGET} is out of date: run python scripts/write_paper.py")


if __name__ == "__main__":
    main()
