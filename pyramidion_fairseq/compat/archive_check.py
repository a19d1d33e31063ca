"""Checks a checkpoint's file before torch reads it: its pickles, and that every tensor's numbers are in it.

torch.save writes a zip without compression, or, up to 1.5, three small pickles, the content, the names of storages,
and the storages' numbers. Of the second kind torch allocates what the pickle asks for, and fills what the names list.
"""

import io
import os
import struct
import tarfile
import zipfile
from typing import Any, BinaryIO, Dict, List, cast

import torch

from . import pickle_names
from .pickle_check import MOST_OPTIONS, BrokenError, Made, NotAllowedError, Storage, check_size, follow, parts

#: Bytes of the pickle in an archive; it has names and options, no numbers.
MOST_PICKLE = 2**26
#: The records at the end of an archive: of 64 bits, where that is, and of 32 bits.
_WIDE, _LOCATOR, _END = struct.Struct("<4sQHHIIQQQQ"), struct.Struct("<4sIQI"), struct.Struct("<4sHHHHIIH")
_ENDS = _WIDE.size + _LOCATOR.size + _END.size


def check(file: BinaryIO) -> None:
    """Refuse a file that torch.save has not written, or that holds what a checkpoint may not; rewinds it.

    Raises:
        NotAllowedError: it holds a name or a call that a checkpoint may not contain; the message names it.
        BrokenError: it is damaged, or asks for more than is in it; the message says why.
    """
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    try:
        if start == b"PK\x03\x04":
            content = _check_archive(file)
        elif start[:1] == b"\x80" and not _is_tar(file):
            content = _check_old_format(file)
        else:
            raise BrokenError("not in the format of torch.save" if start else "it is empty")
    except BrokenError as error:
        foreign = pickle_names.first_name(file)  # in a pickle of a later protocol, which torch.save does not write
        if foreign and "torch.save" in str(error):
            raise NotAllowedError(foreign) from None
        raise
    finally:
        file.seek(0)
    content = content.items if isinstance(content, Made) else content
    for key, part in content.items() if isinstance(content, dict) else ():
        if key in ("cfg", "args"):
            check_size(part, MOST_OPTIONS, "options")
        elif any(isinstance(inner, Made) and inner.name.startswith("omegaconf.") for inner in parts(part)):
            raise NotAllowedError("parts of omegaconf in another place than its options")


class _Pickles:
    """A file of which no instruction can ask for more than a pickle may have; plain files allocate what is asked."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.tell = file, file.tell

    def read(self, count: int) -> bytes:
        if count > MOST_PICKLE:
            raise BrokenError(f"it has a text of {count:,} bytes")
        return self.file.read(count)

    def readline(self) -> bytes:
        return self.file.readline(2**12)


def _check_archive(file: BinaryIO) -> Any:
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        entries = zipfile.ZipFile(file).infolist()
        _check_directory(file, length)
        file.seek(0)
        reader = torch._C.PyTorchFileReader(file)  # as torch.load itself finds them
        names = reader.get_all_records()
    except (zipfile.BadZipFile, RuntimeError, ValueError, OSError, NotImplementedError) as error:
        raise BrokenError(f"{type(error).__name__}: {error}") from None
    if "constants.pkl" in names:
        raise NotAllowedError("a TorchScript program")
    sizes = {entry.filename.partition("/")[2]: entry.file_size for entry in entries}
    if sorted(sizes) != sorted(names) or len({name.lower() for name in sizes}) != len(entries):  # as torch compares
        raise BrokenError("its list of parts is not one that torch.save writes")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(sizes.values()) > length:
        raise BrokenError("its parts are compressed or overlap: it is not as torch.save writes it")
    if not 0 < sizes.get("data.pkl", 0) <= MOST_PICKLE:
        raise BrokenError(f"it has no data.pkl, or one of more than {MOST_PICKLE:,} bytes")
    try:
        pickled = reader.get_record("data.pkl")
    except RuntimeError as error:
        raise BrokenError(str(error)) from None
    content, storages = follow(io.BytesIO(pickled))
    for key, storage in storages.items():
        if sizes.get(f"data/{key}") != storage.nbytes:
            raise BrokenError(f"the storage {key!r} is missing, or has not the {storage.nbytes:,} bytes that it says")
    return content


def _check_directory(file: BinaryIO, length: int) -> None:
    """Check that an archive's list of parts ends where its last records begin, and nothing comes after these.

    zipfile looks for the list there, torch where the records say: they could read two lists.
    """
    file.seek(max(0, length - _ENDS))
    ends = file.read(_ENDS)
    wide, locator = ends[: _WIDE.size], ends[_WIDE.size : -_END.size]
    end = ends[-_END.size :]
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        raise BrokenError("it does not end as torch.save ends it")
    size, start, comment = _END.unpack(end)[-3:]
    end_record = length - _END.size
    if locator.startswith(b"PK\x06\x07"):
        end_record = length - _ENDS
        if not wide.startswith(b"PK\x06\x06") or _LOCATOR.unpack(locator)[2] != end_record:
            raise BrokenError("its list of parts is in two places")
        wide_size, wide_start = _WIDE.unpack(wide)[-2:]
        if size not in (wide_size, 2**32 - 1) or start not in (wide_start, 2**32 - 1):
            raise BrokenError("its list of parts is in two places")
        size, start = wide_size, wide_start
    if start + size != end_record or comment:
        raise BrokenError("its list of parts is in two places")


def _check_old_format(file: BinaryIO) -> Any:
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    pickles = cast(BinaryIO, _Pickles(file))  # of a file, a pickle is read by these methods alone
    for _ in range(3):  # a number that marks the format, its version, the machine
        follow(pickles)
    content, storages = follow(pickles)
    if sum(storage.nbytes for storage in storages.values()) > length:
        raise BrokenError("it asks for more numbers than are in the file")
    _check_numbers(file, follow(pickles)[0], storages, length)
    return content


def _check_numbers(file: BinaryIO, keys: Any, storages: Dict[str, Storage], length: int) -> None:
    """Check that every storage's numbers follow, each after its own count."""
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        missing: List[str] = [key for key in storages if key not in keys] if type(keys) is list else list(storages)
        raise BrokenError(f"its list of storages is another one than its tensors need; missing: {missing[:3]}")
    for key in keys:
        count = file.read(8)
        if len(count) < 8 or struct.unpack("<q", count)[0] != storages[key].numel:
            raise BrokenError(f"the storage {key!r} has not as many numbers as it says")
        if file.seek(storages[key].nbytes, os.SEEK_CUR) > length:
            raise BrokenError(f"it ends inside the storage {key!r}")


def _is_tar(file: BinaryIO) -> bool:
    """Return whether torch would take it for a format older still, whose parts it extracts."""
    try:
        tarfile.open(fileobj=file, mode="r:").close()
    except (tarfile.TarError, ValueError, OSError, EOFError):
        return False
    finally:
        file.seek(0)
    return True
