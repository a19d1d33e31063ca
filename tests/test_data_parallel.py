"""Two processes (gloo, CPU) train as one does with the same effective batch; recomputing changes nothing."""

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


def two(main, argv, folder, timeout=300):
    """The same in two processes that find each other; the output of the first one."""
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
    """Runs with fairscale in one new interpreter, which sees it: {name: (folder, statuses, output of the first)}."""
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
    """What two processes logged with what one logs that takes two batches for an update."""
    one = command("train", folder, *SAME, *options, "--update-freq", 2, "--save-dir", folder / "one")
    single, double = rows(one.stdout), rows(stdout)
    assert single.keys() == double.keys() and len(single) == 2 * (4 + 1)
    for moment, expected in single.items():
        assert double[moment] == pytest.approx(expected, abs=0.002), moment
    assert {"pool1_winner", "pool2_spread"} <= set(double["train", 8.0])
    return double


@pytest.mark.parametrize("backend", ["legacy_ddp", "pytorch_ddp"])
def test_two_processes_equal_one_with_the_same_effective_batch(command, tmp_path, backend):
    """40 documents make 7 batches, 5 make 4: one process runs out of both first, and gets dummy batches."""
    write_corpus(tmp_path, words=6)
    spread = [*SPREAD, "--ddp-backend", backend, "--save-dir", tmp_path / "two"]
    stdout = two(fairseq_command("train"), ["fairseq-train", tmp_path, *SAME, *EVAL, *spread], tmp_path)
    assert "x FullyShardedDataParallel(" not in stdout
    double = compare(command, tmp_path, stdout, *EVAL)
    assert 0 < double["valid", 8.0]["rouge2"] < double["valid", 8.0]["rouge1"] < 100


def test_two_processes_with_sharded_layers_equal_one(command, sharded):
    folder, statuses, stdout = sharded["equal"]
    assert statuses == [0, 0], stdout[-3000:]
    for layers in ("(0-2): 3", "(0-1): 2"):  # of the encoder and of the decoder, as the model is printed
        assert f"{layers} x FullyShardedDataParallel(" in stdout
    compare(command, folder, stdout)


@pytest.mark.parametrize("criterion", ["label_smoothed_cross_entropy", "chunked_cross_entropy"])
def test_update_freq_with_a_pointer_is_a_larger_batch(command, tmp_path, criterion):
    """Four documents at once, or two and two: the same loss, and the same weights after three updates."""
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
def test_torchs_own_data_parallel_takes_the_model(tiny_model, random_tokens, tmp_path, options):
    """What --ddp-backend pytorch_ddp wraps a model in: every parameter has a gradient, uneven batches included."""
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
        for _ in range(2):  # it complains of the step before
            model.zero_grad()
            loss(model, rank).backward()
        torch.save({name: p.grad for name, p in model.module.named_parameters()}, tmp_path / f"{rank}.pt")

    two(main, ["ddp"], tmp_path, timeout=60)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, parameter in expected.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, msg=name)


class Wrapped(torch.nn.Module):
    """What fairscale's FullyShardedDataParallel looks like from outside: calls and attributes are passed on."""

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
def test_layers_inside_a_wrapper_compute_the_same(tiny_model, random_tokens, monkeypatch, options, checkpoint):
    """--ddp-backend fully_sharded puts one around every layer; fairscale and its GPUs are not needed to see that."""
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


def test_sharded_layers_do_not_generate(sharded):
    """In validation they would wait forever: said in one line, before anything is trained."""
    _, statuses, log = sharded["generating"]
    assert 0 not in statuses
    assert "--eval-rouge cannot generate with layers that --ddp-backend fully_sharded shards" in log


@pytest.mark.parametrize("backend", ["pytorch_ddp", "fully_sharded"])
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason=needs.A_GPU)
def test_backends_of_gpus(command, tmp_path, backend):
    """Losses as of one process with the same effective batch; fairseq runs these backends on GPUs only."""
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


def test_recomputed_activations_give_the_same_losses(command, tmp_path):
    """Dropout included: the second forward pass draws what the first one drew."""
    write_corpus(tmp_path, words=40)
    args = [tmp_path, *TASK, *TRAIN, "--no-save", "--max-update", "8"]
    plain, recomputed = (command("train", *args, *flags).stdout for flags in ([], ["--checkpoint-activations"]))
    losses = training_log(plain)
    assert len(losses) == 8 + 2 and training_log(recomputed) == losses


@pytest.mark.parametrize("first", [1, 2])
def test_a_run_goes_on_in_the_middle_of_an_epoch_with_another_number_of_processes(command, tmp_path, first):
    """One process takes twice as many batches for an update. Stock fairseq takes the place in its batches as it is."""
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
