"""Tests of fairseq-train for 20 updates and of fairseq-generate, in every precision that a GPU has.

On a CPU they use a tiny model in float32; on a GPU the paper's model at full size, with and without CUDA graphs.
"""

import math

import pytest
import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.options import get_training_parser, parse_args_and_arch

from pyramidion_fairseq.config import complete
from tests.helpers import needs
from tests.helpers.training import BEAM, TASK, TRAIN, USER_DIR, summaries, training_log, write_corpus

GPU = torch.cuda.is_available()
PRECISIONS = {
    "float32": [],
    "tf32": [],
    "bf16": ["--bf16"],
    "autocast": ["--autocast", "bf16"],
    "fp16": ["--fp16", "--fp16-init-scale", "4"],
}
#: Documents of many lengths; on a GPU beyond the blocks of 512 and both poolings.
LENGTHS = {
    "train": [300 + 397 * i % 7900 for i in range(40)] if GPU else [5 + 13 * i % 150 for i in range(40)],
    "valid": [400, 8192, 2048] if GPU else [1, 64, 65],
    "test": [300, 513, 2049, 8192, 9000] if GPU else [5, 6, 64, 200],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, 60, **LENGTHS)
    return folder


def train_options(gpu):
    """Return training options of a tiny model on a CPU, or of the paper's model on a GPU."""
    if not gpu:
        return TRAIN
    common = TRAIN[TRAIN.index("--cpu") + 1 :]
    return [*USER_DIR, *common, "--arch", "deeppyramidion", "--no-save-optimizer-state", "--batch-size", "2"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_options_for_a_gpu_are_of_the_papers_model(data, precision):
    line = [str(data), *TASK, *train_options(gpu=True), *PRECISIONS[precision]]
    cfg = convert_namespace_to_omegaconf(parse_args_and_arch(get_training_parser(), line))
    model = complete(cfg.model)
    assert (model.encoder_embed_dim, model.encoder_layers, model.max_source_positions) == (768, 6, 8192)
    assert model.pooling_schedule == "2:2048,3:512" and not cfg.common.cpu and cfg.dataset.batch_size == 2
    assert (cfg.common.fp16, cfg.common.bf16) == (precision == "fp16", precision == "bf16")


@pytest.mark.parametrize(
    "precision",
    [
        pytest.param(name, marks=[] if name == "float32" else pytest.mark.skipif(not GPU, reason=needs.A_GPU))
        for name in PRECISIONS
    ],
)
def test_stock_commands_train_and_generate_in_every_precision(data, tmp_path, command, monkeypatch, precision):
    monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", str(int(precision == "tf32")))
    where = {"fresh": True, "visible": "0"} if GPU else {}  # test_pipeline.py tests new interpreters on CPUs
    flags = [*PRECISIONS[precision], "--save-dir", tmp_path, "--max-update", "20"]
    done = command("train", data, *TASK, *train_options(GPU), *flags, **where, timeout=240)
    losses = training_log(done.stdout)
    train = [loss for (kind, _), loss in losses.items() if kind == "train"]
    assert len(train) == 20 and all(map(math.isfinite, losses.values())) and min(train[-5:]) < train[0]
    half = ["--fp16"] if precision == "fp16" else []
    written = {}
    for graphs in ([], ["--cuda-graphs"]) if GPU else ([],):
        path = ["--path", tmp_path / "checkpoint_last.pt", "--user-dir", "pyramidion_fairseq", "--gen-subset", "test"]
        device = [] if GPU else ["--cpu"]
        done = command("generate", data, *TASK, *path, *BEAM, *device, *half, *graphs, **where, timeout=240)
        written[str(graphs)] = summaries(done.stdout)
        assert sorted(written[str(graphs)]) == list(range(len(LENGTHS["test"])))
    assert all(text == written["[]"] for text in written.values())
