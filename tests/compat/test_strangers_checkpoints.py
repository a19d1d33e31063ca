"""Tests of hostile checkpoints that aim at memory addresses, memory, time or files: a one-line error at once."""

import collections
import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from pyramidion_fairseq import checkpoints
from pyramidion_fairseq.compat import allowed_names
from tests.helpers.refusals import refused

GLOBAL = {
    name: f"c{name.rpartition('.')[0]}\n{name.rpartition('.')[2]}\n".encode()
    for name in (*allowed_names.NAMES, "builtins.bytearray", "builtins.set", "torch.Tensor", "collections.Counter")
}
NUMPY = "numpy._core.multiarray._reconstruct"


def text(value):
    """Return pickle instructions that push a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def data(value):
    """Return pickle instructions that push bytes, as protocol 2 writes them."""
    return GLOBAL["_codecs.encode"] + text(value.decode("latin1")) + text("latin1") + b"\x86R"


def write(path, instructions, before=b""):
    """Write a checkpoint whose ``extra_state`` is made by these instructions, packed as by torch.save."""
    whole = b"\x80\x02}" + before + text("model") + b"}s" + text("extra_state") + instructions + b"s."
    packed = io.BytesIO()
    torch.save({"model": {"a": torch.ones(2)}}, packed)
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = whole if name.endswith("data.pkl") else source.read(name)
            target.writestr(name, content)
    return path


# --------------------------------------------------------------------------------------------- numpy's names

DTYPE = GLOBAL["numpy.dtype"] + text("f8") + b"\x89\x88\x87R"
ARRAY = GLOBAL[NUMPY] + GLOBAL["numpy.ndarray"] + b"K\x00\x85" + data(b"b") + b"\x87R"
SOUND = b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def array(shape, content, dtype=DTYPE + SOUND):
    return ARRAY + b"(K\x01" + shape + dtype + b"\x89" + content + b"tb"


HARMFUL_ARRAYS = {
    "objects over bytes": GLOBAL["numpy.ndarray"] + b"K\x04\x85" + text("O") + data(bytes(32)) + b"\x87R",
    "a new array": GLOBAL["numpy.ndarray"] + b"K\x04\x85" + b"\x85\x81",
    "type object": GLOBAL["numpy.dtype"] + text("O") + b"\x89\x88\x87R",
    "a structured type": GLOBAL["numpy.dtype"] + text("i8,O") + b"\x89\x88\x87R",
    "a list of fields": GLOBAL["numpy.dtype"] + b"]" + b"\x89\x88\x87R",
    "flags of a type": DTYPE + b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb",
    "fields of a type": DTYPE + b"(K\x03" + text("<") + b"N" + text("a") + b"\x85}J\xff\xff\xff\xffK\x08K?tb",
    "more elements than bytes": array(b"K\x05\x85", data(bytes(32))),
    "fewer elements than bytes": array(b"K\x03\x85", data(bytes(32))),
    "a negative shape": array(b"J\xff\xff\xff\xff\x85", data(b"")),
    "a shape beyond memory": array(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", data(b"")),
    "a list of objects": array(b"K\x01\x85", b"]"),
    "another class": GLOBAL[NUMPY] + GLOBAL["builtins.list"] + b"K\x00\x85" + data(b"b") + b"\x87R",
    "another shape": GLOBAL[NUMPY] + GLOBAL["numpy.ndarray"] + b"K\x64\x85" + data(b"b") + b"\x87R",
    "state set twice": array(b"K\x01\x85", data(bytes(8))) + array(b"K\x01\x85", data(bytes(8)))[len(ARRAY) :],
}


@pytest.mark.parametrize("kind", HARMFUL_ARRAYS)
def test_harmful_arrays_are_refused(kind, tmp_path):
    assert "numpy" in refused(write(tmp_path / "m.pt", HARMFUL_ARRAYS[kind]))


@pytest.mark.parametrize("kind", HARMFUL_ARRAYS)
def test_torch_load_refuses_harmful_arrays_too(kind, tmp_path):
    """Check that torch.load has the same guards: its allow-list is global, and fairseq uses it between processes."""
    write(tmp_path / "m.pt", HARMFUL_ARRAYS[kind])
    with pytest.raises(allowed_names.RefusedArrayError):
        torch.load(tmp_path / "m.pt", weights_only=True)


@pytest.mark.parametrize("dtype", ["i8", "f8"])
def test_number_arrays_are_loaded_and_pickled_as_plain_numpy_arrays(dtype, tmp_path):
    given = np.arange(6).reshape(2, 3).astype(dtype)
    torch.save({"model": {}, "sum": [given, given.T]}, tmp_path / "m.pt")
    found = checkpoints.load_checkpoint(tmp_path / "m.pt")["sum"]
    for one, other in zip(found, (given, given.T)):
        assert one.dtype == other.dtype and (one == other).all() and one.shape == other.shape
    assert found[0].base is None and (found[0] + 1).tolist() == (given + 1).tolist()
    for protocol in (2, 5):
        again = pickle.loads(pickle.dumps(found[0], protocol))  # noqa: S301 its own bytes
        assert type(again) is np.ndarray and (again == given).all()


# --------------------------------------------------------------------------------------------- torch's own names

NESTED = b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60))
HARMFUL = {
    "bytearray of 2 GiB": GLOBAL["builtins.bytearray"] + b"J\xff\xff\xff\x7f\x85R",
    "tensor of 2^31 elements": GLOBAL["torch.Tensor"] + b"J\xff\xff\xff\x7f\x85R",
    "hex codec": data(b"ab").replace(text("latin1"), text("hex")),
    "a set of nested tuples": GLOBAL["builtins.set"] + b"](" + NESTED + b"e\x85R",
    "a counter of nested tuples": GLOBAL["collections.Counter"] + b"](" + NESTED + b"e\x85R",
    "a nested tuple as key": b"}" + NESTED + b"K\x01s",
    "an ordered dict of nested tuples": GLOBAL["collections.OrderedDict"] + b"](" + NESTED + b"K\x01\x86e\x85R",
    "a call of a nested tuple": NESTED + b")R",
    "nested too deep": b"]" * 200 + b"a" * 199,
    "lists that double": b"(]q\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(40)) + b"t",
    "a large number": b"\x8a\x20" + b"\x7f" * 32,
    "a container that searches its parents": GLOBAL["omegaconf.dictconfig.DictConfig"] + b"}\x85R",
    "defaultdict that calls a type": GLOBAL["collections.defaultdict"] + GLOBAL["torch.device"] + b"\x85R",
    "tensor placeholder of another process": GLOBAL["argparse.Namespace"].replace(
        b"argparse\nNamespace", b"fairseq.distributed.utils\n_TensorPlaceholder"
    ) + b")\x81",
    "ordered dict with replaced methods": GLOBAL["collections.OrderedDict"] + b")R}" + text("items") + b"K\x01sb",
    "items of a list": b"]K\x00K\x01s",
    "one text encoded 80 times": b"](X" + struct.pack("<I", 2**20) + b"a" * 2**20 + b"q\x01" + b"".join(
        GLOBAL["_codecs.encode"] + b"h\x01" + text("latin1") + b"\x86R" for _ in range(80)
    ) + b"e",
    "items of a tensor's type": GLOBAL["torch.FloatStorage"] + b"K\x00K\x01s",
}  # fmt: skip


#: Kind -> the reason of the refusal.
REASONS = {
    "bytearray of 2 GiB": "holds builtins.bytearray",
    "tensor of 2^31 elements": "holds torch.Tensor",
    "hex codec": "a call of _codecs.encode",
    "a set of nested tuples": "holds builtins.set",
    "a counter of nested tuples": "holds collections.Counter",
    "a nested tuple as key": "a tuple as a key",
    "an ordered dict of nested tuples": "a call of collections.OrderedDict",
    "a call of a nested tuple": "a call of tuple",
    "nested too deep": "more than 100 deep",
    "lists that double": "more than 5,000,000 values",
    "a large number": "an integer of more than 80 bits",
    "a container that searches its parents": "a call of omegaconf.dictconfig.DictConfig",
    "defaultdict that calls a type": "a call of collections.defaultdict",
    "tensor placeholder of another process": "holds fairseq.distributed.utils._TensorPlaceholder",
    "ordered dict with replaced methods": "a state for collections.OrderedDict",
    "items of a list": "items of something that is not a dict",
    "one text encoded 80 times": "encodes more than 67,108,864 bytes",
    "items of a tensor's type": "items of something that is not a dict",
}


@pytest.mark.parametrize("kind", HARMFUL)
def test_harmful_pickle_instructions_are_refused(kind, tmp_path):
    assert REASONS[kind] in refused(write(tmp_path / "m.pt", HARMFUL[kind]))


def tensor(size, stride, offset=0, numel=2, key="0", kind="torch.FloatStorage"):
    """Return pickle instructions for a tensor; data/0 has the two numbers that ``write`` stores."""
    sizes = b"".join(b"(" + b"".join(b"J" + struct.pack("<i", n) for n in parts) + b"t" for parts in (size, stride))
    pid = b"(" + text("storage") + GLOBAL[kind] + text(key) + text("cpu") + b"J" + struct.pack("<i", numel) + b"tQ"
    hooks = GLOBAL["collections.OrderedDict"] + b")R"
    start = GLOBAL["torch._utils._rebuild_tensor_v2"] + b"(" + pid + b"K" + bytes([offset])
    return start + sizes + b"\x89" + hooks + b"tR"


HARMFUL_TENSORS = {
    "10^9 empty rows": tensor([10**9, 0], [1, 1]),
    "beyond its storage": tensor([3], [1]),
    "offset beyond its storage": tensor([2], [1], offset=1),
    "stride beyond its storage": tensor([2], [2]),
    "a negative stride": tensor([2], [-1]),
    "a negative size": tensor([-2], [1]),
    "2^60 elements with stride 0": tensor([2**30, 2**30], [0, 0]),
    "a storage that is larger than its bytes": tensor([4], [1], numel=4),
    "a storage of another type": tensor([2], [1], kind="torch.DoubleStorage"),
    "missing storage": tensor([2], [1], key="1"),
    "storage with a path as its key": tensor([2], [1], key="../data.pkl"),
    "storage with two sizes": b"](" + tensor([2], [1]) + tensor([1], [1], numel=1) + b"e",
}


@pytest.mark.parametrize("kind", HARMFUL_TENSORS)
def test_tensors_outside_of_their_storages_are_refused(kind, tmp_path):
    line = refused(write(tmp_path / "m.pt", HARMFUL_TENSORS[kind]))
    assert "a call of torch._utils._rebuild_tensor_v2" in line or "the storage '" in line


def test_valid_tensor_and_array_instructions_load(tmp_path):
    """Check valid instructions; otherwise the tests above would show nothing."""
    write(tmp_path / "m.pt", b"](" + tensor([2], [1]) + array(b"K\x04\x85", data(bytes(32))) + b"e")
    found = checkpoints.load_checkpoint(tmp_path / "m.pt")["extra_state"]
    assert found[0].tolist() == [1, 1] and found[1].tolist() == [0] * 4


def archive(path, change):
    packed = io.BytesIO()
    torch.save({"model": {"a": torch.ones(2)}}, packed)
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(path, "w") as target:
        change(target, {name: source.read(name) for name in source.namelist()})
    return path


def compressed(target, parts):
    for name, content in parts.items():
        target.writestr(name, content, zipfile.ZIP_DEFLATED)


def without_numbers(target, parts):
    for name, content in parts.items():
        if not name.endswith("data/0"):
            target.writestr(name, content)


@pytest.mark.parametrize("change", [compressed, without_numbers])
def test_compressed_and_incomplete_archives_are_refused(change, tmp_path):
    refused(archive(tmp_path / "m.pt", change))


def two_lists(path, size=2**20):
    """Write an archive with two directories: one where its end record says, one before it, where zipfile looks."""
    lists = [b"", b""]
    archive(path, lambda target, parts: [target.writestr(*part) for part in parts.items()])
    with zipfile.ZipFile(path) as one:
        parts, start = {entry.filename: one.read(entry) for entry in one.infolist()}, b""
    for name, content in parts.items():
        numbers = name.endswith("data/0")
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(bytes(size)) + packer.flush() if numbers else content
        whole = (size, zlib.crc32(bytes(size))) if numbers else (len(content), zlib.crc32(content))
        place, seen = len(start), [(8 * numbers, len(packed), whole[0]), (0, len(content), len(content))]
        head = struct.pack("<4H3I2H", 0, 8 * numbers, 0, 0, whole[1], len(packed), whole[0], len(name), 0)
        start += b"PK\x03\x04\x14\x00" + head + name.encode() + packed
        for index, (kind, stored, given) in enumerate(seen):
            sizes = (whole[1], stored, given, len(name), 0, 0, 0, 0, 0, place)
            lists[index] += b"PK\x01\x02" + struct.pack("<6H3I5H2I", 20, 20, 0, kind, 0, 0, *sizes) + name.encode()
    end = struct.pack("<4H2IH", 0, 0, len(parts), len(parts), len(lists[0]), len(start), 0)
    path.write_bytes(start + lists[0] + lists[1] + b"PK\x05\x06" + end)
    return path


def test_archive_with_two_directories_is_refused(tmp_path):
    """Check that it is refused: torch and zipfile would read different ones, which can hide compressed parts."""
    line = refused(two_lists(tmp_path / "m.pt"))
    assert "in two places" in line


@pytest.mark.parametrize("change", [lambda end: end[:-56] + bytes(8) + end[-48:], lambda end: end + b" "])
def test_archive_with_a_changed_end_is_refused(change, tmp_path):
    torch.save({"model": {"a": torch.ones(2)}}, tmp_path / "m.pt")
    (tmp_path / "m.pt").write_bytes(change((tmp_path / "m.pt").read_bytes()))
    refused(tmp_path / "m.pt")


def test_archive_names_that_differ_only_in_case_are_refused(tmp_path):
    """Check that they are refused; torch treats them as the same name."""

    def change(target, parts):
        for name, content in parts.items():
            target.writestr(name, content)
            if name.endswith("data.pkl"):
                target.writestr(name.replace("data.pkl", "DATA.pkl"), content)

    assert "its directory is" in refused(archive(tmp_path / "m.pt", change))


def test_large_compressed_pickle_is_refused(tmp_path):
    """Check a pickle compressed to a thousandth, which is read only in part to find a name for the error."""
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("archive/data.pkl", b"\x80\x02" + b"N" * 2**25)
    refused(tmp_path / "m.pt")


def test_number_of_options_is_bounded_in_an_ordered_dict(tmp_path):
    shared = ["x"]
    for _ in range(18):
        shared = [shared, shared]
    torch.save(collections.OrderedDict(model={}, cfg={"lists": shared}), tmp_path / "m.pt")
    assert "more than 100,000 options" in refused(tmp_path / "m.pt")


@pytest.mark.parametrize("part", ["model", "extra_state", "optimizer_history"])
def test_omegaconf_outside_of_the_options_is_refused(part, tmp_path):
    """Check that they are refused; using them would resolve references and search their parents."""
    torch.save({"model": {}, part: OmegaConf.create({"a": "${oc.env:HOME}"})}, tmp_path / "m.pt")
    assert "omegaconf" in refused(tmp_path / "m.pt")


MISPLACED = {
    "model": [3, [1], "a", {5: torch.ones(1)}],
    "optimizer_history": [3, [3], {}],
}


@pytest.mark.parametrize("part, value", [(part, value) for part, values in MISPLACED.items() for value in values])
def test_parts_of_a_checkpoint_with_wrong_types_are_refused(part, value, tmp_path):
    torch.save({"model": {}, part: value}, tmp_path / "m.pt")
    assert f"in the place of '{part}'" in refused(tmp_path / "m.pt")


# --------------------------------------------------------------------------------------------- torch's old format


def old_format(path, state, change=lambda storages: storages):
    """Write a checkpoint as torch.save did up to 1.5; ``change`` gets the last pickle and the numbers after it."""
    packed = io.BytesIO()
    torch.save(state, packed, _use_new_zipfile_serialization=False)
    content = packed.getvalue()
    end = content.rindex(b"\x80\x02]")
    path.write_bytes(content[:end] + change(content[end:]))
    return path


def test_checkpoint_in_the_old_format_loads(tmp_path):
    old_format(tmp_path / "m.pt", {"model": {"a": torch.arange(4.0), "b": torch.ones(3).half()}})
    found = checkpoints.load_checkpoint(tmp_path / "m.pt")["model"]
    assert found["a"].tolist() == [0, 1, 2, 3] and found["b"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda storages: b"\x80\x02].", "storages"),
        (lambda storages: storages[:-4], "ends inside"),
        (lambda storages: storages[: storages.index(b".") + 1], "another number of elements"),
        (
            lambda storages: storages.replace(struct.pack("<q", 50), struct.pack("<q", 49)),
            "another number of elements",
        ),
    ],
)
def test_old_checkpoint_with_missing_storage_data_is_refused(change, said, tmp_path):
    old_format(tmp_path / "m.pt", {"model": {"a": torch.ones(50)}}, change)
    assert said in refused(tmp_path / "m.pt")


def test_old_checkpoint_with_a_storage_larger_than_the_file_is_refused(tmp_path):
    path = old_format(tmp_path / "m.pt", {"model": {"a": torch.ones(50)}})
    path.write_bytes(path.read_bytes().replace(b"K2", b"J\xff\xff\xff\x7f", 1))
    assert "need more data than the file contains" in refused(path)
