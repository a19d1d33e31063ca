"""Names in a pickle, for the line of an error, found without building anything."""

import contextlib
import io
import itertools
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Any, BinaryIO, Dict, List, Optional

from .allowed_names import NAMES

#: Bytes of a pickle that are read for a name, and instructions; names stand before the numbers.
MOST_BYTES = 2**22
MOST_INSTRUCTIONS = 200_000


def refused(message: str) -> Optional[str]:
    """Return full name of the type that torch has refused, from its error's message; None if that names none."""
    match = re.search(r"GLOBAL (\S+) (?:was not|whose)", message)
    # torch leaves the module out where it is "builtins".
    return match and modern(match.group(1) if "." in match.group(1) else "builtins." + match.group(1))


def first_name(file: BinaryIO) -> Optional[str]:
    """Return first name in the pickle that a checkpoint may not contain; None if there is none, or it cannot be read.

    For pickles of later protocols than torch.save's, at whose first bytes reading stops.
    """
    with contextlib.suppress(Exception):
        return _first_name(file)
    return None


def _first_name(file: BinaryIO) -> Optional[str]:
    """Read the instructions and follow none of them."""
    file.seek(0)
    if zipfile.is_zipfile(file):
        archive = zipfile.ZipFile(file)
        stream: Any = archive.open(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    else:
        file.seek(0)
        stream = file
    start = io.BytesIO(stream.read(MOST_BYTES))  # it may be packed to a thousandth
    strings: List[Optional[str]] = []  # pushed so far; None stands for whatever else has been remembered
    memo: Dict[int, Optional[str]] = {}
    latest: Any = None
    argument: Any
    for instruction, argument, _ in itertools.islice(pickletools.genops(start), MOST_INSTRUCTIONS):
        kind = instruction.name
        if kind == "MEMOIZE" or kind.endswith("PUT"):
            memo[len(memo) if kind == "MEMOIZE" else argument] = latest
            continue
        latest = memo.get(argument) if kind.endswith("GET") else argument
        if kind in ("GLOBAL", "INST"):
            name = modern(argument.replace(" ", "."))
        elif kind == "STACK_GLOBAL":
            name = ".".join(str(part) for part in strings[-2:])
        else:
            if isinstance(latest, str):
                strings.append(latest)
            continue
        if name not in NAMES:
            return name
    return None


def modern(name: str) -> str:
    """Return the module's name of today.

    Up to protocol 2, which torch.save uses, pickles name modules as Python 2 did: "commands" for "subprocess".
    """
    module, _, short = name.rpartition(".")
    if (module, short) in NAME_MAPPING:
        return ".".join(NAME_MAPPING[module, short])
    return f"{IMPORT_MAPPING.get(module, module)}.{short}"
