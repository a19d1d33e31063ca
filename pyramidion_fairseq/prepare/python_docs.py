"""The documentation of the Python installation as a corpus, for machines without a network.

A document is the documentation of one module: the docstrings of its classes and functions in source order, each with
its name and parameters. The summary is the module's own docstring. Modules are parsed, never imported.
"""

import ast
import os
import sysconfig
import warnings
from typing import Iterator, List, Optional, Sequence, Tuple, Union

from . import streams
from .errors import BadRecord
from .record_types import Parsed, Raw

MIN_SUMMARY_WORDS = 8
MIN_DOCUMENT_WORDS = 60
TEST_FOLDERS = {"test", "tests", "idle_test"}
NO_MODULES = {"__pycache__", "site-packages", "dist-packages", "node_modules"}
Definition = Union[ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef]


def installation_roots() -> List[str]:
    """Return the folders of the standard library and of the installed packages of this interpreter."""
    paths = sysconfig.get_paths()
    roots = [os.path.realpath(paths[name]) for name in ("stdlib", "purelib", "platlib")]
    return [root for number, root in enumerate(roots) if os.path.isdir(root) and root not in roots[:number]]


def is_test(name: str) -> bool:
    """Return whether the dotted module name is that of a test."""
    parts = name.split(".")
    last = parts[-1]
    is_test_file = last.startswith("test_") or last.endswith("_test") or last == "conftest"
    return is_test_file or any(part in TEST_FOLDERS for part in parts)


def module_files(root: str) -> Iterator[Tuple[str, str]]:
    """Yield ``(dotted module name, path)`` under ``root``, in sorted order."""
    for top, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in NO_MODULES and f.isidentifier())
        package = os.path.relpath(top, root).split(os.sep) if top != root else []
        for name in sorted(names):
            stem, extension = os.path.splitext(name)
            if extension == ".py" and stem.isidentifier():
                parts = package if stem == "__init__" else [*package, stem]
                if parts:
                    yield ".".join(parts), os.path.join(top, name)


def signature_text(node: Definition) -> str:
    """Return the name of a class, or ``name(parameters)`` of a function without defaults and annotations."""
    if isinstance(node, ast.ClassDef):
        return node.name
    given = node.args
    names = [argument.arg for argument in [*given.posonlyargs, *given.args]]
    if given.vararg:
        names.append("*" + given.vararg.arg)
    elif given.kwonlyargs:
        names.append("*")
    names += [argument.arg for argument in given.kwonlyargs]
    if given.kwarg:
        names.append("**" + given.kwarg.arg)
    return "{}({})".format(node.name, ", ".join(names))


def documented(body: Sequence[ast.stmt], scope: str = "") -> Iterator[str]:
    """Yield one paragraph per documented class or function, in source order, including those in ``if`` and ``try``."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                kind = "class " if isinstance(node, ast.ClassDef) else ""
                yield f"{kind}{scope}{signature_text(node)}: {docstring}"
            if isinstance(node, ast.ClassDef):
                yield from documented(node.body, scope + node.name + ".")
        else:
            for field in ("body", "handlers", "orelse", "finalbody"):
                inner = getattr(node, field, None)
                if isinstance(inner, list):
                    yield from documented(inner, scope)


class PythonDocs:
    """Reader of all documented modules under ``roots``.

    Args:
        roots: folders with modules; by default those of this Python installation.
        by_package: whether to return the name of the module's package as a label instead of the summary.
    """

    def __init__(self, roots: Optional[Sequence[str]] = None, by_package: bool = False):
        self.label, self.by_package = "python-docs", by_package
        self.roots = list(roots) if roots is not None else installation_roots()

    def signature(self) -> List[object]:
        files = [streams.signature(path) for root in self.roots for _, path in module_files(root)]
        return ["python-docs", *(["package"] if self.by_package else []), files]

    def records(self) -> Iterator[Raw]:
        for root in self.roots:
            for name, path in module_files(root):
                yield Raw(path, 1, name)

    def parse(self, raw: Raw) -> Parsed:
        if is_test(raw.payload):
            raise BadRecord("test module", bad=False)
        try:
            with open(raw.file, "rb") as stream, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about invalid escapes in the parsed code
                tree = ast.parse(stream.read())
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
            raise BadRecord("not readable as Python", bad=False) from None
        summary = ast.get_docstring(tree) or ""
        if len(summary.split()) < MIN_SUMMARY_WORDS:
            raise BadRecord(f"module docstring of fewer than {MIN_SUMMARY_WORDS} words", bad=False)
        document = "\n".join(documented(tree.body))
        if len(document.split()) < MIN_DOCUMENT_WORDS:
            raise BadRecord(f"documentation of fewer than {MIN_DOCUMENT_WORDS} words", bad=False)
        return Parsed(document, raw.payload.split(".")[0] if self.by_package else summary, key=raw.payload)
