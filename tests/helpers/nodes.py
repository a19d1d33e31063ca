"""Train on "nodes" of one machine: processes with the variables that torchrun or Slurm sets."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.forked import Forked, fairseq_command
from tests.helpers.ranks import free_port

#: Options that make a recipe's training take seconds and give the same result on one process as on two.
SMALL = [
    "--encoder-embed-dim", "16", "--decoder-embed-dim", "16", "--encoder-ffn-embed-dim", "16",
    "--decoder-ffn-embed-dim", "16", "--encoder-attention-heads", "2", "--decoder-attention-heads", "2",
    "--encoder-layers", "3", "--decoder-layers", "1", "--pooling-schedule", "2:16,3:8", "--block-size", "8",
    "--max-source-positions", "128", "--max-target-positions", "32", "--num-workers", "0", "--data-buffer-size", "0",
    "--lr", "0.003", "--warmup-updates", "1", "--adam-eps", "1e-4", "--dropout", "0", "--attention-dropout", "0",
    "--activation-dropout", "0", "--log-format", "json", "--log-interval", "1", "--no-epoch-checkpoints",
]  # fmt: skip


def start(words: list, logs: list[Path], befores: tuple = ()) -> list[Forked]:
    """Start ``fairseq-train`` with these words on as many nodes as there are logs, as torchrun does.

    Functions in ``befores`` are called first, each in the process of its node.
    """
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(len(logs))}
    processes = []
    for rank, log in enumerate(logs):

        def main(rank: int = rank) -> None:
            for before in befores[rank : rank + 1]:
                before()
            fairseq_command("train")()

        environment = {**world, "RANK": str(rank), "LOCAL_RANK": "0"}
        with open(log, "ab") as file:
            processes.append(Forked(main, ["fairseq-train", *words], file, file, environment=environment))
    return processes


def finish(processes: list[Forked], timeout: float = 300) -> list[int]:
    """Wait for the processes and return their exit statuses; kill those that are left."""
    try:
        return [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
