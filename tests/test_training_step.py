"""Tests that a fast training step gives the same results: optimizer, precision, compilation, batches."""

import copy
import json
import re
import shutil
import weakref

import numpy as np
import pytest
import torch
from fairseq.optim.adam import Adam
from omegaconf import OmegaConf

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.models.encoder_layer import Dropout
from pyramidion_fairseq.optim import FusedAdamW
from pyramidion_fairseq.optim.fused_adamw import FusedAdamWConfig
from pyramidion_fairseq.tasks.dataset import DocumentPairDataset
from tests.helpers import needs
from tests.helpers.tensors import LargestTensor
from tests.helpers.training import TASK, TRAIN, USER_DIR, training_log, write_corpus


def optimizer(params, **options):
    settings = {"lr": [1e-2], "adam_betas": "(0.9, 0.98)", "weight_decay": 0.1, **options}
    return FusedAdamW(OmegaConf.create({**vars(FusedAdamWConfig()), **settings}), params)


def grow(params, step, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(5):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_fused_adamw_matches_the_adam_of_fairseq(decay):
    start = [torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64), torch.ones(3)]
    ours, theirs = ([torch.nn.Parameter(x.double().clone()) for x in start] for _ in range(2))
    grow(ours, optimizer(ours, weight_decay=decay, adam_eps=1e-12).step)
    grow(theirs, Adam(theirs, lr=1e-2, betas=(0.9, 0.98), weight_decay=decay, eps=1e-12).step)
    for mine, other, first in zip(ours, theirs, start):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)  # epsilon is added at another point
        assert (mine - first).abs().mean() > 1e-3


def test_fused_adamw_keeps_moments_of_bf16_parameters_in_float32():
    params = [torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))]
    made = optimizer(params)
    grow(params, made.step)
    assert made.supports_memory_efficient_fp16 and made.optimizer.state[params[0]]["exp_avg"].dtype == torch.float32
    assert not optimizer([torch.nn.Parameter(torch.ones(3))]).supports_memory_efficient_fp16


def test_fused_adamw_reads_betas_without_evaluating_code():
    assert optimizer([torch.nn.Parameter(torch.ones(1))]).optimizer_config["betas"] == (0.9, 0.98)
    with pytest.raises(ValueError):
        optimizer([torch.nn.Parameter(torch.ones(1))], adam_betas="__import__('os').getcwd()")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, words=40)
    return folder


@pytest.fixture(scope="module")
def losses(command, data, tmp_path_factory):
    """Return a function that trains 14 updates with fused AdamW and returns the losses."""
    folder = tmp_path_factory.mktemp("checkpoints")
    train = [text if text != "adam" else "fused_adamw" for text in TRAIN]

    def run(*flags, name="last", updates=14):
        done = command("train", data, *TASK, *train, "--save-dir", folder / name, "--max-update", updates, *flags)
        return training_log(done.stdout)

    return run


def test_fused_adamw_trains_and_resumes_bit_for_bit(losses, float32_losses):
    whole = float32_losses
    losses(name="parts", updates=9)
    assert losses(name="parts").items() <= whole.items()
    assert whole["train", 14] < 0.9 * whole["train", 1]


@pytest.fixture(scope="module")
def float32_losses(losses):
    return losses(name="float32")


@pytest.mark.parametrize("flags", [["--autocast", "bf16"], ["--bf16"], ["--memory-efficient-bf16"]], ids=str)
def test_losses_in_bfloat16_follow_those_in_float32(losses, float32_losses, flags):
    expected, low = float32_losses, losses(*flags, name="-".join(flags))
    assert expected.keys() == low.keys() and expected != low
    for step, loss in expected.items():
        assert low[step] == pytest.approx(loss, rel=0.02), step


def test_model_trained_in_bfloat16_generates(losses, command, data, tmp_path):
    losses("--autocast", "bf16", "--save-dir", str(tmp_path))
    arguments = [
        "--path",
        tmp_path / "checkpoint_last.pt",
        "--batch-size",
        4,
        "--cpu",
        "--beam",
        2,
        "--num-workers",
        0,
    ]
    done = command("generate", data, *USER_DIR, *TASK, *arguments)
    assert len(re.findall(r"^H-", done.stdout, re.M)) == 5


@pytest.mark.skipif(shutil.which("g++") is None, reason=needs.A_COMPILER)
@pytest.mark.parametrize("checkpoint", [False, True])
def test_compiled_encoder_layers_give_the_same_gradients(tiny_model, random_tokens, checkpoint):
    options = {"encoder_layers": 2, "pooling_schedule": "1:12,2:5", "checkpoint_activations": checkpoint}
    plain, compiled = tiny_model(**options), tiny_model(**options, compile_encoder_layers=True)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    assert copy.deepcopy(compiled).encoder.layers[0] is not compiled.encoder.layers[0]
    graphs = []
    for lengths in ([50, 12], [33, 3], [7, 7, 2], [7]):  # one compilation, and another for a single document
        tokens, summary = random_tokens(lengths), torch.tensor([[2, 5, 6, 7]] * len(lengths))
        grads = []
        for model in (plain.train(), compiled.train()):
            model.zero_grad()
            model(tokens, None, summary)[0].square().sum().backward()
            grads.append([p.grad for p in model.parameters()])
        for mine, other in zip(*grads):
            torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[2] > 0


def test_compile_encoder_layers_without_a_compiler_is_refused(tiny_model, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(PyramidionError, match=r"needs a C\+\+ compiler"):
        tiny_model(compile_encoder_layers=True)
    tiny_model()


def test_encoder_dropout_is_off_in_evaluation_unless_retained(tiny_model, random_tokens):
    model, tokens = tiny_model(dropout=0.5), random_tokens([20])
    assert sum(isinstance(module, Dropout) for module in model.encoder.modules()) == 1 + 2 * 3
    first = model.encoder(tokens)["encoder_out"][0]
    assert torch.equal(model.encoder(tokens)["encoder_out"][0], first)
    model.make_generation_fast_(retain_dropout=True, retain_dropout_modules=["PyramidionEncoderLayer"])
    assert not torch.equal(model.encoder(tokens)["encoder_out"][0], first)


def test_full_length_states_are_freed_after_a_pooling(tiny_model, random_tokens):
    """Check it without gradients, when the next layer begins."""
    model, tokens = tiny_model(pooling_schedule="1:4"), random_tokens([64])
    long, alive = [], []
    first, second = list(model.encoder.layers)[:2]
    first.register_forward_hook(lambda layer, inputs, out: long.extend([weakref.ref(inputs[0]), weakref.ref(out)]))
    second.register_forward_pre_hook(lambda layer, inputs: alive.append(sum(x() is not None for x in long)))
    with torch.no_grad():
        model.encoder(tokens)
    assert alive == [0]


def test_encoder_layer_does_not_copy_its_states(tiny_model):
    """Check that no layer makes the batch-first states contiguous or transposes them."""
    copies = []

    class Copies(LargestTensor):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if func.overloadpacket.__name__ in ("clone", "contiguous", "copy_", "cat", "_to_copy"):
                copies.append(out.shape)
            return out

    layer = tiny_model().float().encoder.layers[0]
    x = torch.randn(3, 16, 8)
    with torch.no_grad(), Copies():
        layer(x, None, [16] * 3)
    assert not copies


def test_batches_of_similar_lengths_have_at_most_2_percent_padding(dictionary):
    """Check batches of 8 of realistic lengths; padding to 8192, as in the published code, would be 38%."""
    lengths = np.minimum(np.random.default_rng(0).lognormal(8.5, 0.6, 4000).astype(int) + 1, 8192)
    targets = np.random.default_rng(1).integers(50, 400, 4000)
    documents = [torch.zeros(1, dtype=torch.long)] * 4000
    data = DocumentPairDataset(documents, lengths, dictionary, documents, targets, dictionary, left_pad_source=False)
    with np.errstate(all="raise"):
        batches = data.batch_by_size(data.ordered_indices(), max_sentences=8)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert sum(map(len, batches)) == 4000
    assert 1 - lengths.sum() / padded < 0.02
    assert 1 - lengths.sum() / (4000 * 8192) == pytest.approx(0.38, abs=0.03)


def test_batches_have_document_lengths_on_the_host_unless_left_padded(dictionary):
    documents = [torch.tensor([5] * (n - 1) + [2]) for n in (4, 7)]
    for left in (False, True):
        data = DocumentPairDataset(documents, [4, 7], dictionary, left_pad_source=left, with_document_lengths=True)
        batch = data.collater([data[0], data[1]])["net_input"]
        assert batch.get("document_lengths") == (None if left else [7, 4])
    assert json.dumps(data.collater([])) == "{}"
