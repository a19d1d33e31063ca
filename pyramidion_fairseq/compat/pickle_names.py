"""Finds names in a pickle, for error messages, without building objects."""

import contextlib
import io
import itertools
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Any, BinaryIO, Dict, List, Optional

from .allowed_names import NAMES

#: Maximum bytes that are read to find a name; names precede the data of tensors.
MOST_BYTES = 2**22
#: Maximum instructions that are read to find a name.
MOST_INSTRUCTIONS = 200_000


def refused(message: str) -> Optional[str]:
    """Return the full name that torch refused, from the message of its error; None if it names none."""
    match = re.search(r"GLOBAL (\S+) (?:was not|whose)", message)
    # torch omits the module if it is "builtins".
    return match and modern(match.group(1) if "." in match.group(1) else "builtins." + match.group(1))


def first_name(file: BinaryIO) -> Optional[str]:
    """Return the first name in a pickle that is not allowed; None if there is none or the pickle cannot be read.

    It is meant for pickles of later protocols than that of torch.save, which are refused at their first bytes.
    """
    with contextlib.suppress(Exception):
        return _first_name(file)
    return None


def _first_name(file: BinaryIO) -> Optional[str]:
    """Read the instructions without executing them."""
    file.seek(0)
    if zipfile.is_zipfile(file):
        archive = zipfile.ZipFile(file)
        stream: Any = archive.open(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    else:
        file.seek(0)
        stream = file
    start = io.BytesIO(stream.read(MOST_BYTES))  # a compressed file may expand a thousandfold
    strings: List[Optional[str]] = []  # pushed so far; None for other values from the memo
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
    """Return a name in Python 3.

    Up to protocol 2, which torch.save uses, pickles use the modules' names in Python 2: "commands" for "subprocess".
    """
    module, _, short = name.rpartition(".")
    if (module, short) in NAME_MAPPING:
        return ".".join(NAME_MAPPING[module, short])
    return f"{IMPORT_MAPPING.get(module, module)}.{short}"
