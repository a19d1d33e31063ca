"""Differentiable communication between the ranks that share documents, with byte counts and timeouts."""

from __future__ import annotations

import datetime
import time
import zlib
from collections import Counter
from typing import Any, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import PyramidionError, one_line
from ..version import __version__
from .parts import Parts

#: Seconds after which a rank stops waiting for the others; longer than it takes to save a checkpoint.
TIMEOUT = 1800.0


class SequenceGroup:
    """The ranks that share documents: P consecutive ranks of the world.

    Every rank computes the loss of the whole batch. The backward pass of each communication is its exact adjoint and
    sums over ranks, so the gradients of all ranks add up to P times those of a single process. The mean over ranks,
    which data parallelism computes anyway, is therefore correct for both encoder and decoder.

    Args:
        group: process group of torch.distributed.
        timeout: timeout of the group in seconds.
    """

    def __init__(self, group: dist.ProcessGroup, timeout: float = TIMEOUT):
        self.group, self.timeout = group, timeout
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.ranks = dist.get_process_group_ranks(group)
        #: Number of bytes that this rank has sent to others, by purpose.
        self.sent: Counter[str] = Counter()

    def __deepcopy__(self, memo: dict[int, Any]) -> SequenceGroup:
        return self  # a copied model is on the same ranks

    def gather(self, x: Tensor, what: str) -> Tensor:
        """Gather tensors of equal shape from all ranks: (...) -> (P, ...). ``what`` describes them in errors.

        Raises:
            PyramidionError: a rank did not respond in time, or has ended.
        """
        gathered: Tensor = _Gather.apply(x, self, what)
        return gathered

    def exchange(self, rows: Tensor, sends: Sequence[int], receives: Sequence[int], what: str) -> Tensor:
        """Send consecutive rows to each rank in turn, and return the received rows in the order of the ranks.

        Args:
            rows: (n, ...), with n the sum of ``sends``.
            sends, receives: number of rows to and from each rank.
            what: see :meth:`gather`.

        Returns:
            (m, ...), with m the sum of ``receives``.
        """
        received: Tensor = _Exchange.apply(rows, list(sends), list(receives), self, what)
        return received

    def gather_columns(self, x: Tensor, parts: Parts, what: str) -> Tensor:
        """Concatenate the parts of all ranks: this rank's (B, W) or (B, W, C) -> (B, T) or (B, T, C).

        A rank with an empty part passes one column, which is ignored.
        """
        widest = max(1, *parts.widths)
        missing = widest - x.size(1)
        if missing:
            x = torch.nn.functional.pad(x, (0, 0) * (x.dim() - 2) + (0, missing))
        gathered = self.gather(x, what)
        return torch.cat([part[:, :width] for part, width in zip(gathered, parts.widths)], dim=1)

    def reduce_columns(self, x: Tensor, parts: Parts, what: str) -> Tensor:
        """Sum over the ranks and keep this rank's part: (B, T, C) of every rank -> (B, W, C).

        Summed in the order of the ranks, so that the result is deterministic. An empty part becomes one column of
        zeros.
        """
        width = parts.width(self.rank)
        rows = x.transpose(0, 1)
        received = self.exchange(rows, parts.widths, [width] * self.size, what)
        if not width:  # stays in the graph: this rank takes part in the backward pass
            return received.new_zeros(1, *rows.shape[1:]).transpose(0, 1) + received.sum()
        return received.unflatten(0, (self.size, width)).sum(dim=0).transpose(0, 1)

    def beside(self, x: Tensor, parts: Parts, reach: int, what: str) -> tuple[Tensor, Tensor]:
        """Return the tokens within ``reach`` of each side of this rank's part: (B, W, C) -> (B, l, C), (B, r, C)."""
        start = parts.start(self.rank)
        wanted = [parts.beside(self.rank, asker, reach) for asker in range(self.size)]
        coming = [parts.beside(holder, self.rank, reach) for holder in range(self.size)]
        rows = torch.cat([x[:, max(0, low - start) : max(0, high - start)] for low, high in wanted], dim=1)
        receives = [high - low for low, high in coming]
        received = self.exchange(rows.transpose(0, 1), [high - low for low, high in wanted], receives, what)
        left, right = received.transpose(0, 1).split([sum(receives[: self.rank]), sum(receives[self.rank :])], dim=1)
        return left, right

    def agree(self, tokens: Tensor, settings: str) -> None:
        """Raise an error if the ranks differ in version, settings or batch.

        Args:
            tokens: (B, T) ids of the batch.
            settings: text that must be the same on all ranks.

        Raises:
            PyramidionError: on every rank; names the ranks that differ from the first one, and in what.
        """
        # Checksum: sum of products with odd numbers modulo 2**64, which differs if batches of equal shape differ.
        odd = torch.arange(1, 2 * tokens.numel(), 2, device=tokens.device).view(tokens.shape)
        known = [zlib.crc32(text.encode()) for text in (__version__, settings)]
        mine = torch.tensor([*known, *tokens.shape, 0], device=tokens.device)
        mine[-1] = (tokens * odd).sum()
        with torch.no_grad():
            found = self.gather(mine, "the comparison of batches").tolist()
        compared = {"versions of the package": slice(0, 1), "settings": slice(1, 2), "batches": slice(2, None)}
        for what, columns in compared.items():
            others = [self.ranks[i] for i, row in enumerate(found) if row[columns] != found[0][columns]]
            if others:
                raise PyramidionError(
                    f"--sequence-parallel {self.size}: rank {self.ranks[self.rank]} stops: ranks {self.ranks[0]} and "
                    f"{', '.join(map(str, others))} share documents and have different {what}; start all of them with "
                    "the same package, command line and data"
                )

    def wait(self, work: dist.Work | None, what: str, since: float) -> None:
        """Wait for a collective operation.

        Raises:
            PyramidionError: names the waiting rank, the other ranks, what it waited for, and how long.
        """
        try:
            if work is not None:
                work.wait()
        except RuntimeError as error:
            others = ", ".join(str(rank) for rank in self.ranks if rank != self.ranks[self.rank])
            seconds = time.monotonic() - since
            raise PyramidionError(
                f"--sequence-parallel {self.size}: rank {self.ranks[self.rank]} waited {seconds:.0f} s for {what} "
                f"of rank {others}, which did not come (limit {self.timeout:.0f} s): look for the first error of "
                f"the other ranks ({one_line(error)})"
            ) from error


def sequence_group(size: int, timeout: float = TIMEOUT) -> SequenceGroup:
    """Divide the world into groups of ``size`` consecutive ranks, and return this rank's. All ranks must call it.

    Args:
        size: P, number of ranks that share documents, at least 2.
        timeout: time in seconds that a rank waits for the others of its group.

    Raises:
        PyramidionError: there are no other processes, or P does not divide their number.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise PyramidionError(
            f"--sequence-parallel {size} needs {size} processes that know each other, and this is one alone: start "
            "them with torchrun (docs/long-documents.md)"
        )
    world = dist.get_world_size()
    if size < 2 or world % size:
        raise PyramidionError(
            f"--sequence-parallel {size} must be at least 2 and divide the number of processes, {world} "
            "(--distributed-world-size)"
        )
    groups = [list(range(first, first + size)) for first in range(0, world, size)]
    group, _ = dist.new_subgroups_by_enumeration(groups, timeout=datetime.timedelta(seconds=timeout))
    return SequenceGroup(group, timeout)


def _all_gather(x: Tensor, group: SequenceGroup, what: str) -> Tensor:
    out = x.new_empty(group.size, *x.shape)
    since = time.monotonic()
    try:
        work = dist.all_gather_into_tensor(out.flatten(), x.contiguous().flatten(), group.group, async_op=True)
    except RuntimeError as error:
        raise _send_error(group, what, error) from error
    group.wait(work, what, since)
    group.sent[what] += (group.size - 1) * x.numel() * x.element_size()
    return out


def _all_to_all(rows: Tensor, sends: list[int], receives: list[int], group: SequenceGroup, what: str) -> Tensor:
    out = rows.new_empty(sum(receives), *rows.shape[1:])
    since = time.monotonic()
    try:
        work = dist.all_to_all_single(out, rows.contiguous(), receives, sends, group.group, async_op=True)
    except RuntimeError as error:
        raise _send_error(group, what, error) from error
    group.wait(work, what, since)
    others = sum(sends) - sends[group.rank]
    group.sent[what] += others * rows[:1].numel() * rows.element_size()
    return out


def _send_error(group: SequenceGroup, what: str, error: RuntimeError) -> PyramidionError:
    return PyramidionError(
        f"--sequence-parallel {group.size}: rank {group.ranks[group.rank]} could not send {what}: {one_line(error)}"
    )


class _Gather(torch.autograd.Function):
    """Gather. The gradient of a rank's tensor is the sum of the gradients of all its copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: SequenceGroup, what: str) -> Tensor:
        ctx.group, ctx.what = group, what
        return _all_gather(x, group, what)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        ones = [1] * ctx.group.size
        parts = _all_to_all(grad, ones, ones, ctx.group, f"gradients of {ctx.what}")
        return parts.sum(dim=0), None, None


class _Exchange(torch.autograd.Function):
    """Exchange of rows. Gradients are sent back the same way."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, sends: list[int], receives: list[int], group: SequenceGroup, what: str
    ) -> Tensor:
        ctx.sends, ctx.receives, ctx.group, ctx.what = sends, receives, group, what
        return _all_to_all(rows, sends, receives, group, what)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        back = _all_to_all(grad, ctx.receives, ctx.sends, ctx.group, f"gradients of {ctx.what}")
        return back, None, None, None, None
