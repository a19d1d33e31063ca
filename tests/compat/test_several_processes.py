"""Tests of ``--cpu`` on a machine with GPUs, whose number is the default of --distributed-world-size."""

import sys
from argparse import Namespace

import pytest
import torch

from pyramidion_fairseq.compat.mistakes import check_processes
from pyramidion_fairseq.compat.several_processes import read_launcher
from pyramidion_fairseq.errors import PyramidionError


@pytest.fixture
def cfg(monkeypatch):
    """Return the options of ``fairseq-train --cpu`` on a machine with four GPUs, without a launcher."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(sys, "argv", ["fairseq-train", "data", "--cpu"])
    training = Namespace(
        distributed_world_size=4, distributed_num_procs=4, distributed_init_method=None, distributed_backend="nccl",
        distributed_port=-1, distributed_no_spawn=False, distributed_rank=0, pipeline_model_parallel=False,
    )  # fmt: skip
    return Namespace(common=Namespace(cpu=True, tpu=False), distributed_training=training)


def test_cpu_uses_one_process_by_default(cfg):
    read_launcher(cfg)
    check_processes(cfg)
    training = cfg.distributed_training
    assert (training.distributed_world_size, training.distributed_num_procs) == (1, 1)


@pytest.mark.parametrize(
    "word", ["--distributed-world-size", "--distributed-world-size=4", "distributed_training.distributed_world_size=4"]
)
def test_several_processes_with_cpu_are_refused(cfg, monkeypatch, word):
    monkeypatch.setattr(sys, "argv", [*sys.argv, word])
    read_launcher(cfg)
    with pytest.raises(PyramidionError, match=r"4 processes .* need a GPU each, and --cpu is given: start several"):
        check_processes(cfg)


def test_each_gpu_gets_a_process(cfg):
    cfg.common.cpu = False
    read_launcher(cfg)
    check_processes(cfg)
    assert cfg.distributed_training.distributed_world_size == 4
