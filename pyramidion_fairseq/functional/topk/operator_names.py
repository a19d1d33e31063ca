"""Namespaces for custom operators of torch, one per copy of the files that define them.

A model exported to transformers ships its own copy of these files. Defining the same operator twice would break the
first definition.
"""

from __future__ import annotations

import re


def namespace_of(module: str) -> str:
    """Return the namespace for the operators of a module, restricted to letters, digits and underscores as in torch.

    The folder of an exported model is a part of its modules' names and may contain any character. Each unsupported
    character is replaced by its code point, so two folders never share a namespace.

    Args:
        module: ``__name__`` of the module.
    """
    return re.sub(r"[^0-9A-Za-z_]", lambda found: f"_{ord(found[0]):x}_", module.replace(".", "_"))
