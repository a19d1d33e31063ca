"""Tests that two processes (gloo, CPU) train like one with the same effective batch, and of recomputation."""

import json
import os
import re

import pytest
import torch

from pyramidion_fairseq.checkpoints import load_checkpoint
from tests.helpers import needs
from tests.helpers.forked import fairseq_command
from tests.helpers.ranks import end_ranks, start_ranks
from tests.helpers.sharded import FAIRSCALE
from tests.helpers.sharded import train as train_sharded
from tests.helpers.training import TASK, TRAIN, training_log, write_corpus

EVAL = ["--eval-rouge", "--eval-rouge-args", '{"beam": 2, "max_len_b": 8}', "--eval-rouge-samples", "3"]


def rows(stdout):
    """Return the logged values of every update and validation, without times and memory."""
    found = {}
    for text in re.findall(r"\| (?:train_inner|valid) \| (\{.*\})", stdout):
        row = {name.replace("valid_", ""): float(value) for name, value in json.loads(text).items()}
        kind = "valid" if "valid_loss" in json.loads(text) else "train"
        apart = ["ups", "wps", "src_wps", "wall", "train_wall", "gb_peak", "epoch"]
        if kind == "valid":
            apart += ["wpb", "bsz"]  # per step of validation, which has one batch of each process
        found[kind, row["num_updates"]] = {name: value for name, value in row.items() if name not in apart}
    return found


def two(main, argv, folder, timeout=300):
    """Run a function in two processes of one group and return the output of the first."""
    statuses = end_ranks(start_ranks(lambda rank: main(), 2, folder, argv), timeout)
    logs = [(folder / f"log{rank}").read_text() for rank in range(2)]
    assert statuses == [0, 0], "".join(log[-3000:] for log in logs)
    return logs[0]


SPREAD = [
    "--distributed-backend", "gloo", "--distributed-no-spawn", "--distributed-init-method", "env://",
    "--device-id", "0", "--distributed-world-size", "2", "--distributed-rank", "RANK",
]  # fmt: skip


SAME = [*TASK, *TRAIN, "--verbose", "--dropout", 0, "--attention-dropout", 0, "--activation-dropout", 0]
SAME += ["--data-buffer-size", 0, "--max-epoch", 2, "--batch-size-valid", 2, "--clip-norm", 1]
EVERY_LAYER = [*SPREAD, "--ddp-backend", "fully_sharded", "--min-params-to-wrap", "100"]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """Train with fairscale in one new interpreter; return {name: (folder, statuses, output of the first rank)}."""
    if not FAIRSCALE.is_dir():
        pytest.skip("needs fairscale where scripts/bootstrap.sh puts it")
    runs = {"equal": SAME, "generating": [*TASK, *TRAIN, *EVAL, "--no-save"]}
    folders = {name: tmp_path_factory.mktemp(name) for name in runs}
    for folder in folders.values():
        write_corpus(folder, words=6)
    lines = {
        str(folder): [str(folder), *map(str, runs[name]), *EVERY_LAYER, "--save-dir", str(folder / "two")]
        for name, folder in folders.items()
    }
    statuses = train_sharded(lines)
    return {name: (at, statuses[str(at)], (at / "log0").read_text("utf-8")) for name, at in folders.items()}


def compare(command, folder, stdout, *options):
    """Compare what two processes logged with what one process logs that has two batches in an update."""
    one = command("train", folder, *SAME, *options, "--update-freq", 2, "--save-dir", folder / "one")
    single, double = rows(one.stdout), rows(stdout)
    assert single.keys() == double.keys() and len(single) == 2 * (4 + 1)
    for moment, expected in single.items():
        assert double[moment] == pytest.approx(expected, abs=0.002), moment
    assert {"pool1_winner", "pool2_spread"} <= set(double["train", 8.0])
    return double


@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_two_processes_equal_one_with_the_same_effective_batch(command, tmp_path, backend):
    """Check it with 7 batches of training and 4 of validation, so that one process gets dummy batches."""
    write_corpus(tmp_path, words=6)
    spread = [*SPREAD, "--ddp-backend", backend, "--save-dir", tmp_path / "two"]
    stdout = two(fairseq_command("train"), ["fairseq-train", tmp_path, *SAME, *EVAL, *spread], tmp_path)
    assert "x FullyShardedDataParallel(" not in stdout
    double = compare(command, tmp_path, stdout, *EVAL)
    assert 0 < double["valid", 8.0]["rouge2"] < double["valid", 8.0]["rouge1"] < 100


def test_two_processes_with_sharded_layers_equal_one(command, sharded):
    folder, statuses, stdout = sharded["equal"]
    assert statuses == [0, 0], stdout[-3000:]
    for layers in ("(0-2): 3", "(0-1): 2"):  # encoder and decoder in the printed model
        assert f"{layers} x FullyShardedDataParallel(" in stdout
    compare(command, folder, stdout)


@pytest.mark.parametrize("criterion", ["label_smoothed_cross_entropy", "chunked_cross_entropy"])
def test_update_freq_with_a_pointer_equals_a_larger_batch(command, tmp_path, criterion):
    """Compare losses and weights after three updates of four documents at once, two and two, or one by one."""
    write_corpus(tmp_path, words=14, train=[60, 9, 33, 21])
    args = [tmp_path, *TASK, *TRAIN, "--pointer", "--criterion", criterion, "--label-smoothing", "0.1"]
    args += ["--dropout", "0", "--attention-dropout", "0", "--activation-dropout", "0"]
    args += [
        "--max-update",
        "3",
        "--disable-validation",
        "--data-buffer-size",
        "0",
        "--optimizer",
        "sgd",
        "--lr",
        "0.3",
    ]
    logs, models = [], []
    for size, frequency in ((4, 1), (2, 2), (1, 4)):
        folder = tmp_path / str(size)
        sizes = ["--batch-size", size, "--update-freq", frequency, "--save-dir", folder]
        logs.append(training_log(command("train", *args, *sizes).stdout))
        models.append(load_checkpoint(folder / "checkpoint_last.pt")["model"])
    assert len(logs[0]) == 3 and "decoder.pointer.gate.weight" in models[0]
    for log, model in zip(logs[1:], models[1:]):
        assert log == pytest.approx(logs[0], abs=0.002)
        for name, tensor in models[0].items():
            torch.testing.assert_close(model[name], tensor, rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("options", [{}, {"checkpoint_activations": True}, {"attention": "lsg"}], ids=str)
def test_distributed_data_parallel_gives_the_averaged_gradients(tiny_model, random_tokens, tmp_path, options):
    """Check torch's wrapper of --ddp-backend pytorch_ddp, with uneven batches: every parameter has a gradient."""
    batches = [random_tokens([40, 7, 3]), random_tokens([25], seed=1)]
    summaries = [torch.tensor([[2, 5, 6, 7]] * len(tokens)) for tokens in batches]

    def loss(model, rank):
        return model(batches[rank], None, summaries[rank])[0].square().sum()

    expected = tiny_model(**options).train()
    sum(loss(expected, rank) for rank in range(2)).div(2).backward()

    def main():
        rank = int(os.environ["RANK"])
        torch.distributed.init_process_group("gloo")
        model = torch.nn.parallel.DistributedDataParallel(tiny_model(**options).train())
        for _ in range(2):  # it reports unused parameters in the next step
            model.zero_grad()
            loss(model, rank).backward()
        torch.save({name: p.grad for name, p in model.module.named_parameters()}, tmp_path / f"{rank}.pt")

    two(main, ["ddp"], tmp_path, timeout=60)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, parameter in expected.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, msg=name)


class Wrapped(torch.nn.Module):
    """A wrapper that passes calls and attributes on, like fairscale's FullyShardedDataParallel."""

    def __init__(self, module, **_):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


@pytest.mark.parametrize("options", [{}, {"scorer": "attention_sum"}, {"attention": "lsg"}], ids=str)
@pytest.mark.parametrize("checkpoint", [False, True])
def test_layers_in_fsdp_wrappers_give_the_same_gradients(tiny_model, random_tokens, monkeypatch, options, checkpoint):
    """Check wrappers around every layer, as of --ddp-backend fully_sharded, without fairscale and GPUs."""
    options = {**options, "checkpoint_activations": checkpoint}
    plain = tiny_model(**options)
    monkeypatch.setattr("pyramidion_fairseq.models.encoder.fsdp_wrap", Wrapped)
    monkeypatch.setattr("fairseq.models.transformer.transformer_decoder.fsdp_wrap", Wrapped)
    wrapped = tiny_model(**options)
    assert all(isinstance(layer, Wrapped) for layer in [*wrapped.encoder.layers, *wrapped.decoder.layers])
    tokens, summary = random_tokens([40, 7, 3]), torch.tensor([[2, 5, 6, 7]] * 3)
    gradients = []
    for model in (plain, wrapped):
        model.train()(tokens, None, summary)[0].square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert len(gradients[0]) == len(gradients[1]) and all(torch.equal(*pair) for pair in zip(*gradients))


def test_eval_rouge_with_sharded_layers_is_refused(sharded):
    """Check it because validation would wait forever."""
    _, statuses, log = sharded["generating"]
    assert 0 not in statuses
    assert "--eval-rouge cannot generate with layers that --ddp-backend fully_sharded shards" in log


@pytest.mark.parametrize("backend", ["pytorch_ddp", "fully_sharded"])
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason=needs.A_GPU)
def test_ddp_backends_on_gpus_train_like_one_process(command, tmp_path, backend):
    """Compare losses with those of one process with the same effective batch; these backends need GPUs."""
    if backend == "fully_sharded":
        pytest.importorskip("fairscale")
    write_corpus(tmp_path, words=6)
    gpu = [text for text in TRAIN if text != "--cpu"]
    args = [tmp_path, *TASK, *gpu, "--dropout", "0", "--max-epoch", "2", "--batch-size-valid", "2"]
    runs = [
        command("train", *args, *flags, "--save-dir", tmp_path / name, fresh=True, visible=visible)
        for name, flags, visible in (
            ("one", ["--update-freq", 2], "0"),
            ("two", ["--ddp-backend", backend, "--distributed-world-size", "2"], "0,1"),
        )
    ]
    single, double = (training_log(run.stdout) for run in runs)
    assert single.keys() == double.keys() and single == pytest.approx(double, abs=0.01)


def test_checkpoint_activations_gives_the_same_losses(command, tmp_path):
    """Check it with dropout: the second forward pass must use the same random numbers."""
    write_corpus(tmp_path, words=40)
    args = [tmp_path, *TASK, *TRAIN, "--no-save", "--max-update", "8"]
    plain, recomputed = (command("train", *args, *flags).stdout for flags in ([], ["--checkpoint-activations"]))
    losses = training_log(plain)
    assert len(losses) == 8 + 2 and training_log(recomputed) == losses


@pytest.mark.parametrize("first", [1, 2])
def test_run_resumes_within_an_epoch_with_another_number_of_processes(command, tmp_path, first):
    """Check it with twice as many batches for one process; stock fairseq does not convert the position."""
    write_corpus(tmp_path, words=20)
    one = [tmp_path, *SAME, "--batch-size", 4, "--save-interval-updates", 3]
    undisturbed = rows(command("train", *one, "--update-freq", 2, "--save-dir", tmp_path / "whole").stdout)
    logs = ""
    for processes, until in ((first, 3), (3 - first, 99)):
        words = [*one, "--max-update", until, "--save-dir", tmp_path / "save"]
        if processes == 1:
            logs += command("train", *words, "--update-freq", 2).stdout
        else:
            logs += two(fairseq_command("train"), ["fairseq-train", *words, *SPREAD], tmp_path)
    assert f"{first} processes have read 6 batches of the epoch; {3 - first} continue after 6" in logs
    for moment, expected in undisturbed.items():
        assert rows(logs)[moment]["loss"] == pytest.approx(expected["loss"], abs=0.002), moment
