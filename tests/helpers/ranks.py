"""Run functions on several ranks (gloo, CPU), each in a process forked from this one."""

import socket
from pathlib import Path
from typing import Any, Callable

import torch

from tests.helpers.forked import Forked


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_ranks(main: Callable[[int], Any], size: int, folder: Path, argv: list) -> list:
    """Start main(rank) on every rank; it finds the others in its environment. Output goes to folder/log{rank}."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    processes = []
    for rank in range(size):
        with open(folder / f"log{rank}", "wb") as file:
            words = [text if text != "RANK" else rank for text in argv]
            environment = {**common, "RANK": str(rank)}
            processes.append(
                Forked(lambda rank=rank: main(rank), words, file, file, environment=environment)  # type: ignore[misc]
            )
    return processes


def end_ranks(processes: list, timeout: float = 60) -> list:
    """Wait for all, kill what is left, and return the statuses."""
    try:
        return [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()


def on_ranks(main: Callable[[int], Any], size: int, folder: Path, timeout: float = 60) -> list:
    """Run main(rank) on every rank of a gloo group and return the results."""

    def run(rank: int) -> None:
        torch.distributed.init_process_group("gloo")
        torch.save(main(rank), folder / f"result{rank}.pt")
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()

    statuses = end_ranks(start_ranks(run, size, folder, ["ranks"]), timeout)
    assert statuses == [0] * size, "".join((folder / f"log{rank}").read_text()[-3000:] for rank in range(size))
    return [torch.load(folder / f"result{rank}.pt", weights_only=False) for rank in range(size)]


def refused_on_ranks(main: Callable[[int], Any], size: int, folder: Path, timeout: float = 60) -> list[str]:
    """Run main(rank), which must fail on every rank, and return the last line of each, as of fairseq-train.

    The rank's name, which torch puts before the line, is removed.
    """

    def run(rank: int) -> None:
        torch.distributed.init_process_group("gloo")
        main(rank)

    statuses = end_ranks(start_ranks(run, size, folder, ["fairseq-train"]), timeout)
    logs = [(folder / f"log{rank}").read_text() for rank in range(size)]
    assert statuses == [1] * size, logs
    return [log.removeprefix(f"[rank{rank}]: ") for rank, log in enumerate(logs)]
