"""Count violations of the rules for the code: long functions and files, circles of imports, private words and others.

``python scripts/house.py`` prints the counts and the violations; the exit status is 1 if there are any.
``tests/test_house.py`` asserts the same, with a list of exceptions.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pyramidion_fairseq"
#: Folders whose functions and files must be short: all except the tests.
CODE = (PACKAGE, "preprocess", "benchmarks", "examples", "scripts")
MOST_FUNCTION_LINES = 60
MOST_FILE_LINES = 350
#: Words that have another meaning in the field, or none.
PRIVATE_WORDS = re.compile(
    r"\b(?:places?_of|_seat_kernel|_NOBODY|make_room|OWNERS|owners|reading_of|Reading|_play|Played|hidden_keys"
    r"|visible_tokens)\b|\b(?:draw|play)\("
)


#: First words of docstrings that are not verbs.
NO_VERBS = {
    "A",
    "All",
    "An",
    "Each",
    "Every",
    "How",
    "If",
    "It",
    "None",
    "One",
    "That",
    "The",
    "This",
    "What",
    "Whether",
}


def long_functions() -> Iterator[str]:
    """Yield "file:function" of every function with more than :data:`MOST_FUNCTION_LINES` lines."""
    for path in _files(*CODE):
        for function in _functions(path):
            if function.end_lineno is not None and function.end_lineno - function.lineno >= MOST_FUNCTION_LINES:
                yield f"{_name(path)}:{function.name}"


def long_files() -> Iterator[str]:
    """Yield every file of Python, C++ or CUDA with more than :data:`MOST_FILE_LINES` lines."""
    for path in _files(*CODE, endings=(".py", ".cpp", ".h", ".cu")):
        if path.read_text(encoding="utf-8").count("\n") > MOST_FILE_LINES:
            yield _name(path)


def unannotated_functions() -> Iterator[str]:
    """Yield "file:function" where a parameter or the result has no type; Triton's kernels have none."""
    for path in _files(PACKAGE):
        for function in _functions(path):
            is_kernel = any("jit" in ast.unparse(decorator) for decorator in function.decorator_list)
            if not is_kernel and not is_annotated(function):
                yield f"{_name(path)}:{function.name}"


def first_lines_without_verb() -> Iterator[str]:
    """Yield "file:function" of docstrings whose first word cannot be a verb; properties are not checked."""
    for path in _files(*CODE):
        for function in _functions(path):
            first = (ast.get_docstring(function) or "Do").split()[0].strip(",;.")
            is_property = any("property" in ast.unparse(decorator) for decorator in function.decorator_list)
            if not is_property and (first in NO_VERBS or not re.fullmatch("[A-Z][a-z-]+", first)):
                yield f"{_name(path)}:{function.name}"


def import_circles() -> Iterator[str]:
    """Yield the modules of each circle of imports, including imports within functions, not those for types."""
    imports = {_module(path): _imported(path) for path in _files(PACKAGE)}
    imports = {module: {name for name in names if name in imports} - {module} for module, names in imports.items()}
    reached = {module: _reachable(module, imports) for module in imports}
    circles = {frozenset({m for m in reached[module] if module in reached[m]}) for module in imports}
    yield from sorted(" ".join(sorted(circle)) for circle in circles if circle)


def imports_of_parts() -> dict[str, set[str]]:
    """Return the parts that each part of the package imports. Parts are folders, those of ``apps/``, and single files.

    A folder ends in a slash, a file in ``.py``, as in the table of docs/architecture.md.
    """
    parts = {_module(path): _part(path) for path in _files(PACKAGE)}
    found: dict[str, set[str]] = {part: set() for part in parts.values()}
    for path in _files(PACKAGE):
        found[_part(path)] |= {parts[module] for module in _imported(path) if module in parts} - {_part(path)}
    return found


def _part(path: Path) -> str:
    names = path.relative_to(ROOT / PACKAGE).parts
    depth = 2 if names[0] == "apps" else 1
    return "/".join(names[:depth]) + "/" if len(names) > depth else names[0]


def imports_between_tests() -> Iterator[str]:
    """Yield "file: module" of imports from modules of tests or a conftest; helpers belong in tests/helpers/."""
    for path in _files("tests", "scripts", "benchmarks", "examples"):
        for module in sorted(_imported(path)):
            if re.search(r"\btests\b.*\.(test_\w+|conftest)\b", module):
                yield f"{_name(path)}: {module}"


def private_words() -> Iterator[str]:
    """Yield "file: word" for each use of :data:`PRIVATE_WORDS` in the package."""
    for path in _files(PACKAGE, endings=(".py", ".cpp", ".h", ".cu")):
        for word in sorted(set(PRIVATE_WORDS.findall(path.read_text(encoding="utf-8")))):
            yield f"{_name(path)}: {word.rstrip('(')}"


def flags_without_help() -> Iterator[str]:
    """Yield "file: --flag" for every option without help; ``add`` often abbreviates ``add_argument``."""
    for path in _files(*CODE):
        for node in ast.walk(_tree(path)):
            is_call = isinstance(node, ast.Call) and bool(node.args)
            if is_call and ast.unparse(node.func).rpartition(".")[2] in ("add", "add_argument"):
                name = node.args[-1].value if isinstance(node.args[-1], ast.Constant) else ""
                if str(name).startswith("-") and not any(given.arg in ("help", None) for given in node.keywords):
                    yield f"{_name(path)}: {name}"


COUNTS: dict[str, Callable[[], Iterator[str]]] = {
    "functions over 60 lines": long_functions,
    "files over 350 lines": long_files,
    "unannotated functions": unannotated_functions,
    "docstrings without a verb": first_lines_without_verb,
    "import circles": import_circles,
    "test-to-test imports": imports_between_tests,
    "private words": private_words,
    "flags without help": flags_without_help,
}


def _files(*folders: str, endings: tuple[str, ...] = (".py",)) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in endings)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def is_annotated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether every parameter of a function and its result have a type."""
    arguments = function.args
    all_arguments = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    typed = all(
        argument.annotation is not None or argument.arg in ("self", "cls", "ctx", "_")
        for argument in all_arguments
        if argument is not None
    )
    return typed and (function.returns is not None or function.name == "__init__")


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path) -> set[str]:
    """Return the absolute names that a file imports: modules, and names within them."""
    module, names = _module(path), set()
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in _nodes_that_run(_tree(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = ROOT.joinpath(*origin.split("."), alias.name)
                is_module = submodule.is_dir() or submodule.with_suffix(".py").is_file()
                names.add(f"{origin}.{alias.name}" if is_module else origin)
    return names


def _nodes_that_run(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree, except those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield other
                yield from _nodes_that_run(other)
        else:
            yield from _nodes_that_run(node)


def _reachable(module: str, imports: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imports[waiting.pop()] - found:
            found.add(name)
            waiting.append(name)
    return found


def main() -> None:
    """Print the counts and the violations."""
    any_found = False
    for title, count in COUNTS.items():
        found = list(count())
        any_found |= bool(found)
        sys.stdout.write("".join([f"{title}: {len(found)}\n", *(f"  {item}\n" for item in found)]))
    sys.exit(any_found)


if __name__ == "__main__":
    main()
