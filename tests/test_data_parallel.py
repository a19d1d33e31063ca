"""Two processes (gloo, CPU) train and validate as one process with the same effective batch does."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.test_pipeline import TASK, TRAIN, write_corpus

EVAL = ["--eval-rouge", "--eval-rouge-args", '{"beam": 2, "max_len_b": 8}', "--eval-rouge-samples", "3"]


def rows(stdout):
    """What the log says of every update and validation, times and memory apart."""
    found = {}
    for text in re.findall(r"\| (?:train_inner|valid) \| (\{.*\})", stdout):
        row = {name.replace("valid_", ""): float(value) for name, value in json.loads(text).items()}
        kind = "valid" if "valid_loss" in json.loads(text) else "train"
        apart = ["ups", "wps", "src_wps", "wall", "train_wall", "gb_peak", "epoch"]
        if kind == "valid":
            apart += ["wpb", "bsz"]  # of a step of validation, which is one batch of each process
        found[kind, row["num_updates"]] = {name: value for name, value in row.items() if name not in apart}
    return found


def test_two_processes_equal_one_with_the_same_effective_batch(command, tmp_path):
    """40 documents make 7 batches, 5 make 4: one process runs out of both first, and gets dummy batches."""
    write_corpus(tmp_path, words=6)
    args = [tmp_path, *TASK, *TRAIN, *EVAL, "--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0"]
    args += ["--data-buffer-size", "0", "--max-epoch", "2", "--batch-size-valid", "2", "--clip-norm", "1"]
    one = command("train", *args, "--update-freq", 2, "--save-dir", tmp_path / "one")

    spread = ["--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp", "--distributed-no-spawn"]
    spread += ["--distributed-init-method", "env://", "--device-id", "0", "--save-dir", tmp_path / "two"]
    train = shlex.join(map(str, [sys.executable, "-m", "fairseq_cli.train", *args, *spread]))
    workers = ["--nproc_per_node", "2", "--master_port", "0", "--no-python"]
    shell = f"exec {train} --distributed-world-size $WORLD_SIZE --distributed-rank $RANK"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", *workers, "bash", "-c", shell]
    env = dict(os.environ, OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore", CUDA_VISIBLE_DEVICES="")
    two = subprocess.run(launch, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert two.returncode == 0, two.stdout[-2000:] + two.stderr[-3000:]

    single, double = rows(one.stdout), rows(two.stdout)
    assert single.keys() == double.keys() and len(single) == 2 * (4 + 1)
    for moment, expected in single.items():
        assert double[moment] == pytest.approx(expected, abs=0.002), moment
    assert 0 < double["valid", 8.0]["rouge2"] < double["valid", 8.0]["rouge1"] < 100
    assert {"pool1_winner", "pool2_spread"} <= set(double["train", 8.0])
