"""Names of custom operators of torch, one for each copy of a file that defines some.

A model exported to transformers has its own copy of these files, and to define an operator twice crashes what holds
the first one.
"""

from __future__ import annotations

import re


def namespace_of(module: str) -> str:
    """Return the namespace for the operators of a module, in the letters, digits and underscores that torch takes.

    The folder of an exported model is a part of its modules' names, and can have any characters: each one that torch
    does not take becomes its number, so that two folders never share a namespace.

    Args:
        module: its ``__name__``.
    """
    return re.sub(r"[^0-9A-Za-z_]", lambda found: f"_{ord(found[0]):x}_", module.replace(".", "_"))
