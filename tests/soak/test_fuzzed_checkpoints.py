"""Tests that random pickles of the names that a checkpoint may use cause no crash, no hang and no use of much memory.

A child process reads them within limits of memory and time; the parent checks how it ended.
"""

import collections
import contextlib
import io
import os
import random
import resource
import struct
import time
import traceback
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from pyramidion_fairseq import checkpoints
from pyramidion_fairseq.compat import allowed_names
from pyramidion_fairseq.errors import PyramidionError

#: Seconds of drawing for each seed; most seconds of one file; bytes of memory beyond those at the start.
DRAWING, A_FILE, MEMORY = 15.0, 5.0, 2**30
NAMES = sorted({*allowed_names.NAMES, "builtins.bytearray", "builtins.set", "torch.Tensor", "collections.Counter",
                "torch._utils._rebuild_sparse_tensor", "torch._tensor._rebuild_from_type_v2"})  # fmt: skip
TEXTS = ("latin1", "hex", "i8", "f8", "O", "<", "storage", "0", "cpu", "_metadata", "_content", "_parent", "${a}")
NUMBERS = (0, 1, 2, 3, 8, 64, 255, 2**15, 2**31 - 1, -1, -(2**31))
PLAIN = [b"N", b"\x88", b"\x89", b"}", b"]", b")", b"(", b"t", b"e", b"a", b"s", b"u", b"\x85", b"\x86", b"\x87"]
RISKY = [b"R", b"b", b"\x81", b"Q"]


def name(draw):
    module, _, short = draw.choice(NAMES).rpartition(".")
    return f"c{module}\n{short}\n".encode()


def text(draw):
    value = draw.choice(TEXTS).encode()
    return b"X" + struct.pack("<I", len(value)) + value


def instruction(draw):
    """Return an instruction as torch.save writes them; those that act are more frequent."""
    kind = draw.randrange(8)
    if kind < 2:
        return draw.choice(PLAIN)
    if kind < 4:
        return draw.choice(RISKY)
    if kind == 4:
        return name(draw)
    if kind == 5:
        return text(draw)
    if kind == 6:
        return b"J" + struct.pack("<i", draw.choice(NUMBERS))
    return draw.choice((b"q", b"h")) + bytes([draw.randrange(8)])


def sound():
    """Return the files in a checkpoint that has a value of every allowed kind."""
    state = {
        "model": collections.OrderedDict(a=torch.ones(2), b=torch.nn.Parameter(torch.zeros(3))),
        "cfg": OmegaConf.create({"a": [1, {"b": None}], "c": "text"}),
        "args": Namespace(arch="x", size=torch.Size([1]), device=torch.device("cpu"), dtype=torch.float16),
        "extra_state": {"sum": np.arange(4), "mean": np.ones((2, 2)), "data": b"bytes"},
    }
    packed = io.BytesIO()
    torch.save(state, packed)
    with zipfile.ZipFile(packed) as archive:
        return {part: archive.read(part) for part in archive.namelist()}


def drawn(draw, whole):
    """Return a pickle of random instructions, or the sound one with a few instructions replaced."""
    if draw.random() < 0.4:
        return b"\x80\x02" + b"".join(instruction(draw) for _ in range(draw.randrange(1, 60))) + b"."
    changed = bytearray(whole)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        place = draw.randrange(2, len(changed))
        new = instruction(draw) if draw.random() < 0.7 else bytes([draw.randrange(256)])
        changed[place : place + draw.choice((0, 1, len(new)))] = new
    return bytes(changed)


def packed(parts, pickled):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, pickled if part.endswith("data.pkl") else content)
    return target.getvalue()


def guarded(content, path):
    """Return whether torch alone loads the file with our allowed names; any exception counts as no."""
    with contextlib.suppress(Exception):
        torch.load(io.BytesIO(content), weights_only=True)
        return True
    return False


def loads(content, path):
    """Return whether the file loads; check that a refusal has one line."""
    path.write_bytes(content)
    try:
        checkpoints.load_checkpoint(path)
    except PyramidionError as error:
        assert "\n" not in str(error)
        return False
    return True


def child(seed, folder, read):
    """Draw and read pickles until the time is over; the last file stays in the folder."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    draw, parts = random.Random(seed), sound()
    whole = next(content for part, content in parts.items() if part.endswith("data.pkl"))
    assert read(packed(parts, whole), folder / "sound.pt")
    tried = loaded = 0
    slowest, end = 0.0, time.monotonic() + DRAWING
    while time.monotonic() < end:
        content = packed(parts, drawn(draw, whole))
        (folder / "last.pt").write_bytes(content)
        begun = time.monotonic()
        loaded += read(content, folder / "last.pt")
        tried, slowest = tried + 1, max(slowest, time.monotonic() - begun)
    return f"{tried} {loaded} {slowest}"


@pytest.mark.soak
@pytest.mark.parametrize("read", [loads, guarded])
@pytest.mark.parametrize("seed", range(4))
def test_random_pickles_load_or_are_refused_within_limits(seed, read, tmp_path):
    process = os.fork()
    if not process:
        status = 1
        try:
            (tmp_path / "errors").write_text("")
            (tmp_path / "report").write_text(child(seed, tmp_path, read))
            status = 0
        except BaseException:
            (tmp_path / "errors").write_text(traceback.format_exc())
        finally:
            os._exit(status)
    deadline = time.monotonic() + 3 * DRAWING
    while (ended := os.waitpid(process, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    if ended[0] == 0:
        os.kill(process, 9)
        os.waitpid(process, 0)
    assert ended[0], f"{tmp_path / 'last.pt'} hangs"
    assert ended[1] == 0, f"{tmp_path / 'last.pt'}: {ended[1]} {(tmp_path / 'errors').read_text()[-2000:]}"
    tried, loaded, slowest = map(float, (tmp_path / "report").read_text().split())
    assert tried > 500 and 0 < loaded < tried and slowest < A_FILE
    print(f"{tried:.0f} files, of which {loaded:.0f} loaded; the slowest took {slowest:.2f} s")
