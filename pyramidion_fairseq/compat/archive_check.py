"""Checks a checkpoint's file before torch reads it: its pickles, and that it contains the data of every tensor.

torch.save writes an uncompressed zip. Up to torch 1.5 it wrote three small pickles, a pickle of the content, one of
the storages' keys, and the data of the storages. When torch reads this older format, it allocates the sizes that the
pickle states, and fills only the storages that the keys list.
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

#: Maximum bytes of the pickle in an archive; it contains names and options, no data of tensors.
MOST_PICKLE = 2**26
#: The records at the end of an archive: the 64-bit end record, its locator, and the 32-bit end record.
_WIDE, _LOCATOR, _END = struct.Struct("<4sQHHIIQQQQ"), struct.Struct("<4sIQI"), struct.Struct("<4sHHHHIIH")
_ENDS = _WIDE.size + _LOCATOR.size + _END.size


def check_file(file: BinaryIO) -> None:
    """Refuse a file that torch.save did not write, or with content that is not allowed. The file is rewound.

    Raises:
        NotAllowedError: the file contains a name or a call that is not allowed; the message names it.
        BrokenError: the file is damaged, or claims more data than it contains; the message says why.
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
            raise NotAllowedError("omegaconf objects outside of its options")


class _Pickles:
    """A file that limits the bytes of a single read. A plain file would allocate any number of bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.tell = file, file.tell

    def read(self, count: int) -> bytes:
        if count > MOST_PICKLE:
            raise BrokenError(f"it contains a string of {count:,} bytes")
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
        raise BrokenError("its directory is not one that torch.save writes")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(sizes.values()) > length:
        raise BrokenError("its entries are compressed or overlap, which torch.save does not write")
    if not 0 < sizes.get("data.pkl", 0) <= MOST_PICKLE:
        raise BrokenError(f"its data.pkl is missing, or larger than {MOST_PICKLE:,} bytes")
    try:
        pickled = reader.get_record("data.pkl")
    except RuntimeError as error:
        raise BrokenError(str(error)) from None
    content, storages = follow(io.BytesIO(pickled))
    for key, storage in storages.items():
        if sizes.get(f"data/{key}") != storage.nbytes:
            raise BrokenError(f"the storage {key!r} is missing, or its size is not {storage.nbytes:,} bytes")
    return content


def _check_directory(file: BinaryIO, length: int) -> None:
    """Check that an archive's directory ends where its end records begin, and that nothing follows these.

    zipfile looks for the directory there, but torch at the offset in the records. They could read two directories.
    """
    file.seek(max(0, length - _ENDS))
    ends = file.read(_ENDS)
    wide, locator = ends[: _WIDE.size], ends[_WIDE.size : -_END.size]
    end = ends[-_END.size :]
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        raise BrokenError("its end is not one that torch.save writes")
    size, start, comment = _END.unpack(end)[-3:]
    end_record = length - _END.size
    if locator.startswith(b"PK\x06\x07"):
        end_record = length - _ENDS
        if not wide.startswith(b"PK\x06\x06") or _LOCATOR.unpack(locator)[2] != end_record:
            raise BrokenError("its directory is in two places")
        wide_size, wide_start = _WIDE.unpack(wide)[-2:]
        if size not in (wide_size, 2**32 - 1) or start not in (wide_start, 2**32 - 1):
            raise BrokenError("its directory is in two places")
        size, start = wide_size, wide_start
    if start + size != end_record or comment:
        raise BrokenError("its directory is in two places")


def _check_old_format(file: BinaryIO) -> Any:
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    pickles = cast(BinaryIO, _Pickles(file))  # pickletools uses only these methods
    for _ in range(3):  # the magic number, the version of the format, the system
        follow(pickles)
    content, storages = follow(pickles)
    if sum(storage.nbytes for storage in storages.values()) > length:
        raise BrokenError("its tensors need more data than the file contains")
    _check_numbers(file, follow(pickles)[0], storages, length)
    return content


def _check_numbers(file: BinaryIO, keys: Any, storages: Dict[str, Storage], length: int) -> None:
    """Check that the data of every storage follows, each preceded by its number of elements."""
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        missing: List[str] = [key for key in storages if key not in keys] if type(keys) is list else list(storages)
        raise BrokenError(f"its list of storages does not match its tensors; missing: {missing[:3]}")
    for key in keys:
        count = file.read(8)
        if len(count) < 8 or struct.unpack("<q", count)[0] != storages[key].numel:
            raise BrokenError(f"the storage {key!r} has another number of elements than stated")
        if file.seek(storages[key].nbytes, os.SEEK_CUR) > length:
            raise BrokenError(f"it ends inside the storage {key!r}")


def _is_tar(file: BinaryIO) -> bool:
    """Return whether torch would read the file as a tar archive, its oldest format, and extract it."""
    try:
        tarfile.open(fileobj=file, mode="r:").close()
    except (tarfile.TarError, ValueError, OSError, EOFError):
        return False
    finally:
        file.seek(0)
    return True
