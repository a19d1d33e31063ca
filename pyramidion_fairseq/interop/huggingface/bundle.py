"""Collection of the source files that an exported model needs. transformers loads modules of a flat folder only.

``pyramidion_fairseq/functional/attention/lsg.py`` becomes ``functional_attention_lsg.py``. Its relative imports are
rewritten accordingly, and names that a package re-exports are imported from the file that defines them. The rest of
the source is not changed.
"""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import Iterator

from ...attention import ATTENTIONS
from ...errors import PyramidionError
from ...poolers import POOLERS
from ...scorers import SCORERS

ROOT = Path(__file__).resolve().parent.parent.parent
_PACKAGE = __name__.split(".")[0]
_START = "huggingface.modeling_pyramidion"
#: Prefix of the modules that keep their file names.
_OWN = "huggingface."


def bundle(attention: str, scorer: str, pooler: str, start: str = _START) -> dict[str, str]:
    """Return file name -> source, for a model with these variants.

    Args:
        attention, scorer, pooler: names in the registries. Importing their files registers them.
        start: the module that defines the model.

    Raises:
        PyramidionError: a variant is defined outside this package, for example in a ``--user-dir``.
    """
    chosen = ((ATTENTIONS, attention), (SCORERS, scorer), (POOLERS, pooler))
    variants = [registry.get(name) for registry, name in chosen]
    for (_, name), variant in zip(chosen, variants):
        if not variant.__module__.startswith(_PACKAGE + "."):
            raise PyramidionError(f"{name!r} is of {variant.__module__}: only files of {_PACKAGE} can be exported")
    sources = flatten(start, *(_short(variant.__module__) for variant in variants))
    file = flat_name(start) + ".py"
    others = sorted(Path(name).stem for name in sources if name != file)
    # Older releases of transformers copy only files that this one imports itself. The imports also register variants.
    imports = [f"from .{name} import __name__ as _{name}" for name in others]
    sources[file] += "\n".join(["\n", "# All files of this model:", *imports, ""])
    # transformers caches the model's class by that of the configuration, and the latter by the content of its file.
    # The digest makes these differ if the code does; otherwise one process would use the first code for both models.
    digest = hashlib.sha256("".join(f"{name}\n{sources[name]}" for name in sorted(sources)).encode()).hexdigest()
    sources[file.replace("modeling", "configuration")] += f"\n\n# Of the code with SHA-256 {digest}\n"
    return sources


def flatten(*modules: str) -> dict[str, str]:
    """Return file name -> source of these modules, named from the package's root, and of all modules they import."""
    sources: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if flat_name(module) + ".py" not in sources:
            text, needed = _flatten(module)
            sources[flat_name(module) + ".py"] = text
            waiting += needed
    return sources


def flat_name(module: str) -> str:
    """Return a module's name in the flat folder: "functional.attention.lsg" -> "functional_attention_lsg"."""
    return (module[len(_OWN) :] if module.startswith(_OWN) else module).replace(".", "_")


def _short(module: str) -> str:
    """Return a module's name without the package's."""
    return module[len(_PACKAGE) + 1 :]


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _flatten(module: str) -> tuple[str, list[str]]:
    """Return a module's source with flat imports, and the modules that it imports."""
    text = _file(module).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    needed: list[str] = []
    for node in reversed(list(_relative_imports(text))):
        imports: dict[str, list[str]] = {}
        for alias in node.names:
            origin = _origin(_absolute(module, node), alias.name)
            renamed = f" as {alias.asname}" if alias.asname else ""
            imports.setdefault(origin, []).append(alias.name + renamed)
        needed += imports
        lines[node.lineno - 1 : node.end_lineno] = [
            f"from .{flat_name(origin)} import {', '.join(names)}\n" for origin, names in imports.items()
        ]
    return "".join(lines), needed


def _relative_imports(text: str) -> Iterator[ast.ImportFrom]:
    return (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.level)


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """Return the module of a relative import, named from the package's root."""
    is_package = _file(module).name == "__init__.py"
    parents = module.split(".") if is_package else module.split(".")[:-1]
    parents = parents[: len(parents) - (node.level - 1)]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _origin(module: str, name: str) -> str:
    """Return the module that defines a name, also if ``module`` only re-exports it.

    Raises:
        ImportError: ``module`` is a package that does not import the name, or the name is a module. Neither can be
            flattened.
    """
    if _file(module).name != "__init__.py":
        return module
    for node in _relative_imports(_file(module).read_text(encoding="utf-8")):
        if name in {alias.asname or alias.name for alias in node.names}:
            return _origin(_absolute(module, node), name)
    raise ImportError(f"{module} does not import {name} from a file of its own")
