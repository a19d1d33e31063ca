"""Support for several processes on CPUs, which stock fairseq cannot start, and checks that processes match.

torchrun and Slurm give each process a rank. fairseq reads it, but then divides by the number of GPUs, which is 0. With
``--distributed-init-method env://`` it does not read the rank, so that all processes have rank 0.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
from typing import Any, Callable

import torch
from omegaconf import open_dict
from torch import distributed

from ..errors import PyramidionError
from ..utils.requirements import installed
from ..version import __version__
from .marks import mark

_TORCHRUN = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
#: Prefixes of the option on a command line and in Hydra.
_SIZE = ("--distributed-world-size", "distributed_training.distributed_world_size")
_SLURM = ("SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_NTASKS")


def install() -> None:
    """Let torchrun and Slurm start processes on CPUs, and compare the processes. Further calls do nothing."""
    from fairseq import checkpoint_utils
    from fairseq.distributed import utils

    if getattr(utils.call_main, "starts_on_cpus", False):
        return
    utils.call_main = _launching(utils.call_main)
    utils.distributed_init = _comparing(utils.distributed_init)
    checkpoint_utils.load_checkpoint = _sharing(checkpoint_utils.load_checkpoint)


def _launching(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def call_main(cfg: Any, main: Callable[..., Any], **kwargs: Any) -> Any:
        """Run a command as fairseq does, with the rank that torchrun or Slurm gave this process.

        Raises:
            PyramidionError: they started another number of processes than ``--distributed-world-size``.
        """
        read_launcher(cfg)
        return stock(cfg, main, **kwargs)

    return mark(call_main, "starts_on_cpus")


def read_launcher(cfg: Any) -> None:
    """Set the options of distributed training from the environment of torchrun or Slurm, if fairseq would not.

    This applies to processes with ``--cpu``, and to those with ``--distributed-init-method env://``.

    Args:
        cfg: fairseq's whole configuration, which is changed.

    Raises:
        PyramidionError: they started another number of processes than ``--distributed-world-size``.
    """
    wanted = cfg.distributed_training
    torchrun = is_torchrun()
    if wanted.distributed_world_size <= 1 or cfg.common.tpu:
        return
    if wanted.distributed_init_method == "env://" and "RANK" in os.environ and wanted.distributed_rank == 0:
        wanted.distributed_rank = int(os.environ["RANK"])
    if not cfg.common.cpu:
        return
    given = any(word.lstrip("+").startswith(_SIZE) for word in sys.argv)
    if not (torchrun or _is_slurm_task() or wanted.distributed_init_method or given):
        # The default is the number of GPUs, so that as many processes would train on the CPU.
        wanted.distributed_world_size = wanted.distributed_num_procs = 1
        return
    if wanted.distributed_backend == "nccl":
        wanted.distributed_backend = "gloo"
    if wanted.distributed_init_method is not None:
        return
    if torchrun:
        _take(wanted, "torchrun", "env://", int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    elif _is_slurm_task():
        port = wanted.distributed_port if wanted.distributed_port > 0 else _port(os.environ.get("SLURM_JOB_ID", "0"))
        method = f"tcp://{_first_node(os.environ['SLURM_STEP_NODELIST'])}:{port}"
        _take(wanted, "Slurm", method, int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"]))


def is_torchrun() -> bool:
    """Return whether torchrun started this process."""
    return all(name in os.environ for name in _TORCHRUN)


def _is_slurm_task() -> bool:
    return all(name in os.environ for name in _SLURM)


def _take(wanted: Any, launcher: str, method: str, rank: int, size: int) -> None:
    if size != wanted.distributed_world_size:
        raise PyramidionError(
            f"--distributed-world-size {wanted.distributed_world_size} (GPUS= and NODES= of a recipe), but {launcher} "
            f"started {size} process{'es' * (size > 1)}: the numbers must be equal"
        )
    with open_dict(wanted):
        wanted.distributed_init_method, wanted.distributed_rank = method, rank
        wanted.distributed_no_spawn, wanted.device_id = True, 0


def _port(job: str) -> int:
    """Return a port that is the same on all nodes of a job and depends on the job's id."""
    return 20000 + int(job) % 20000


def _first_node(nodes: str) -> str:
    """Return the name of the first node in a list such as ``node[1-4]``.

    Raises:
        PyramidionError: Slurm's command ``scontrol``, which expands such lists, is missing or fails.
    """
    try:
        names = subprocess.run(["scontrol", "show", "hostnames", nodes], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PyramidionError(f"scontrol cannot expand the list of nodes {nodes}: {error}") from None
    return names.stdout.split()[0]


def _comparing(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def distributed_init(cfg: Any) -> Any:
        """Initialise the process group as fairseq does, and compare the versions of all processes.

        Raises:
            PyramidionError: the versions differ.
        """
        rank = stock(cfg)
        if distributed.is_available() and distributed.is_initialized():
            check_alike(versions(), "install the same versions on every node")
        return rank

    return distributed_init


def versions() -> str:
    """Return the versions of the packages that training depends on."""
    versions = [f"pyramidion_fairseq {__version__}", f"torch {torch.__version__}"]
    fairseq = installed("fairseq-fixed", "fairseq")
    if fairseq is not None:
        versions.append(f"fairseq {fairseq[1]}")
    return ", ".join(versions)


def check_alike(mine: str, remedy: str) -> None:
    """Compare a value that must be equal in all processes. All of them must call this function.

    Args:
        mine: the value of this process.
        remedy: what to do about a difference, for the error message.

    Raises:
        PyramidionError: the values differ. It is raised in all processes, and names two that differ.
    """
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, (mine, socket.gethostname()))
    other = next((rank for rank, (theirs, _) in enumerate(found) if theirs != found[0][0]), None)
    if other is not None:
        (first, host), (second, its_host) = found[0], found[other]
        raise PyramidionError(
            f"process 0 (on {host}) has {first}; process {other} (on {its_host}) has {second}: {remedy}"
        )


def _sharing(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough_args: Any) -> Any:
        """Load a checkpoint as fairseq does, if all processes see it; otherwise some would wait forever.

        Raises:
            PyramidionError: only some processes see the checkpoint.
        """
        if distributed.is_initialized() and not trainer.checkpoint_suffix:
            path = os.path.join(cfg.save_dir, cfg.restore_file)  # an absolute path is unchanged
            remedy = f"all nodes must see the same files in --save-dir {cfg.save_dir} (SAVE= of a recipe)"
            check_alike(f"{'a' if os.path.exists(path) else 'no'} {cfg.restore_file} to continue from", remedy)
        return stock(cfg, trainer, **passthrough_args)

    return load_checkpoint
