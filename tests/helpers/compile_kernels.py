"""Compile the kernels that the operator launches on a GPU, without a GPU.

python -m tests.helpers.compile_kernels ARCHITECTURE...

It prints a line for each kernel: the architecture, its name and how many bytes of registers a thread spills.
The interpreter, which runs the kernels without a GPU, accepts Python that Triton's compiler refuses.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from pyramidion_fairseq.functional.topk import partition_triton, tournament_triton, tournament_triton_gradient

#: (documents, n, k), base, dtype, padding: several rounds in several chunks; sizes that are no powers of two; sizes
#: that Triton makes constants, such as 1. All are for the newest architecture, the largest for every architecture.
CASES = [
    ((2, 8192, 512), 20.0, torch.bfloat16, False),
    ((3, 1000, 100), 20.0, torch.float32, True),
    ((1, 2, 1), None, torch.float16, False),
]
#: A program that comes with Triton.
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Driver:
    """A driver that answers what Triton asks of a GPU before it compiles."""

    def __init__(self, architecture: int):
        self.target = GPUTarget("cuda", architecture, 32)

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return self.target.arch  # one for each architecture, as Triton caches kernels by device

    def get_current_stream(self, device):
        return 0


def compile_only(launched: list) -> None:
    """Compile kernels instead of launching them from now on, and append them to the list."""
    run = JITFunction.run

    def compiled(self, *args, grid, warmup, **options):
        launched.append((self.__name__, run(self, *args, grid=grid, warmup=True, **options)))

    JITFunction.run = compiled


def launch(batch: int, length: int, k: int, base: float | None, dtype: torch.dtype, padded: bool) -> None:
    """Launch all kernels of a forward and a backward pass."""
    padded_length = k << ((length - 1) // k).bit_length()
    scores, embeddings = torch.rand(batch, length), torch.rand(batch, length, 40).to(dtype)
    mask = torch.zeros(batch, length, dtype=torch.bool) if padded else None
    for sort in (False, True):
        _, slots, weights, members, filled = tournament_triton.tournament(
            scores, mask, padded_length, k, base, sort, not padded
        )
    out = partition_triton.partition_sum(embeddings, weights, members, filled if filled.size(0) else None)
    partition_triton.partition_sum_backward(out, embeddings, weights, slots, True, True)
    tournament_triton_gradient.tournament_backward(torch.rand(batch, k), weights, scores, members, filled, base)


def spilled(kernel) -> int:
    """Return the bytes of local memory that a thread of a compiled kernel takes."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [str(CUOBJDUMP), "-res-usage", file.name]
        usage = subprocess.run(command, check=True, capture_output=True, text=True)
    return sum(map(int, re.findall(r"(?:STACK|LOCAL):(\d+)", usage.stdout + usage.stderr)))


def main() -> None:
    launched = []
    compile_only(launched)
    newest = max(map(int, sys.argv[1:]))
    for architecture in map(int, sys.argv[1:]):
        launched.clear()
        triton.runtime.driver.set_active(Driver(architecture))
        for shape, base, dtype, padded in CASES if architecture == newest else CASES[:1]:
            launch(*shape, base, dtype, padded)
        kernels = {id(kernel): (name, kernel) for name, kernel in launched}  # each kernel once
        for name, kernel in kernels.values():
            print(architecture, name, spilled(kernel))


if __name__ == "__main__":
    main()
