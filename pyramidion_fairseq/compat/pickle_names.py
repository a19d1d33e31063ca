"""Which type in a pickle has torch refused: names for the error's line, found without building anything."""

import contextlib
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import BinaryIO, Collection, Dict, List, Optional


def refused(message: str, file: BinaryIO, allowed: Collection[str]) -> Optional[str]:
    """Full name of the type that torch has refused, None if the pickle is broken and names no such type.

    Args:
        message: of torch's ``UnpicklingError``.
        file: the checkpoint, open; it is read from its beginning if the message does not tell.
        allowed: full names of the types that are not refused.
    """
    match = re.search(r"GLOBAL (\S+) (was not|whose)", message)
    if match:
        # torch leaves the module out where it is "builtins".
        return _modern(match.group(1) if "." in match.group(1) else "builtins." + match.group(1))
    match = re.search(r"(?:Can only (?:create|build)|Trying to call reduce).*<[a-z -]+ '?([\w.]+)", message)
    if match:
        return match.group(1)
    if "Unsupported operand" in message:
        # A pickle of a later protocol than torch.save's: torch stops at its first bytes and names nothing.
        with contextlib.suppress(Exception):
            return _first_name(file, allowed)
    return None


def _first_name(file: BinaryIO, allowed: Collection[str]) -> Optional[str]:
    """First name in the pickle that is not allowed; reads the instructions and follows none of them."""
    file.seek(0)
    if zipfile.is_zipfile(file):
        archive = zipfile.ZipFile(file)
        stream = archive.open(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    else:
        file.seek(0)
        stream = file
    strings: List[Optional[str]] = []  # pushed so far; None stands for whatever else has been remembered
    memo: Dict[int, Optional[str]] = {}
    latest = None
    for instruction, argument, _ in pickletools.genops(stream):
        kind = instruction.name
        if kind == "MEMOIZE" or kind.endswith("PUT"):
            memo[len(memo) if kind == "MEMOIZE" else argument] = latest
            continue
        latest = memo.get(argument) if kind.endswith("GET") else argument
        if kind in ("GLOBAL", "INST"):
            name = _modern(argument.replace(" ", "."))
        elif kind == "STACK_GLOBAL":
            name = ".".join(str(part) for part in strings[-2:])
        else:
            if isinstance(latest, str):
                strings.append(latest)
            continue
        if name not in allowed and not name.startswith(("torch.", "collections.OrderedDict")):
            return name
    return None


def _modern(name: str) -> str:
    """Up to protocol 2, which torch.save uses, pickles name modules as Python 2 did: "commands" for "subprocess"."""
    module, _, short = name.rpartition(".")
    if (module, short) in NAME_MAPPING:
        return ".".join(NAME_MAPPING[module, short])
    return f"{IMPORT_MAPPING.get(module, module)}.{short}"
