"""Tests of benchmarks/peers.py at tiny sizes: all models do the work that is timed, and the tables show it."""

import json
import math
import subprocess
import sys
from argparse import Namespace

import pytest
import torch

from tests.helpers import forked

TINY = {"width": 32, "length": 256, "vocabulary": 100, "documents": 2, "batch": 2, "tokens": 5, "target": 8, "beam": 2}
NAMES = ["deeppyramidion", "deep_blockwise", "LED", "LongT5", "PEGASUS-X"]


@pytest.fixture(scope="module")
def modules():
    import measure
    import peers

    return measure, peers


@pytest.fixture
def args():
    return Namespace(**TINY, device="cpu", size="reduced", precision="float32", rounds=2)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_trains_encodes_and_generates(modules, args, name):
    _, peers = modules
    peer = peers.peer_models.build(name, peers.sizes_of(args), "cpu")
    calls = peers.calls(name, peer.model, args)
    calls["training"]()
    without = [n for n, p in peer.model.named_parameters() if p.grad is None]
    assert not [n for n in without if "global" not in n] and all(
        p.grad.isfinite().all() for p in peer.model.parameters() if p.grad is not None
    )
    peers.peer_models.for_generation(peer.model, "float32")
    vectors = calls["encoding"]()
    assert vectors.shape == (2, peer.vectors, 32) and not vectors.requires_grad
    assert peer.vectors == (16 if name == "deeppyramidion" else 256)
    assert calls["generation"]() == 2 * TINY["tokens"]


def test_our_encoders_get_the_document_lengths(modules, args, monkeypatch):
    """Check the lengths that the encoders get; without them a GPU masks every block, unlike in the commands."""
    _, peers = modules
    import generation

    model, known = peers.peer_models.build(NAMES[0], peers.sizes_of(args), "cpu").model, []
    forward = model.encoder.forward
    monkeypatch.setattr(
        model.encoder, "forward", lambda *a, **kw: known.append(kw.get("document_lengths")) or forward(*a, **kw)
    )
    calls = peers.calls(NAMES[0], model, args)
    for work in peers.WORK:
        calls[work]()
    assert known == [[TINY["length"]] * 2] * len(peers.WORK)
    known.clear()
    monkeypatch.setattr(generation, "VOCABULARY", TINY["vocabulary"])
    assert generation.encoding_seconds(model, 1, "cpu") > 0
    assert known == [[model.encoder.max_source_positions]] * 2


def test_default_sizes_are_those_of_the_paper(modules):
    _, peers = modules
    with torch.device("meta"):
        built = {name: peers.peer_models.PEERS[name](peers.Sizes()) for name in NAMES[2:]}
        built |= {name: peers.peer_models.ours(name, peers.Sizes(), "meta") for name in NAMES[:2]}
    parameters = {name: round(peer.parameters / 1e6) for name, peer in built.items()}
    assert parameters["deeppyramidion"] == parameters["deep_blockwise"] == 124
    assert all(110 <= count <= 150 for count in parameters.values()), parameters
    assert built["deeppyramidion"].vectors == 512 and built["LED"].vectors == 8192
    assert built["LED"].model.config.attention_window == [512] * 6 and built["LongT5"].model.config.local_radius == 127
    assert built["PEGASUS-X"].model.config.block_size == 512


def test_memory_is_measured_in_a_separate_process(modules, args, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", forked.Popen)
    found = modules[1].memory_apart("deeppyramidion", args)
    assert set(found) == {"training", "encoding", "generation"}
    encoded = 2 * 256 * 32 * 4  # the states of both documents, once
    assert found["training"] > found["encoding"] > encoded and found["generation"] > 0


def test_model_out_of_memory_fails_only_its_own_row(modules, monkeypatch, tmp_path, capsys):
    peers = modules[1]
    encoding = peers.peer_models.encoding

    def failing(name, model, tokens):
        def fail():
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")

        return fail if name == "LED" else encoding(name, model, tokens)

    monkeypatch.setattr(peers.peer_models, "encoding", failing)
    monkeypatch.setattr(peers, "memory_apart", peers.memory)
    options = [f"--{name}={value}" for name, value in TINY.items()]
    line = ["peers.py", "--device=cpu", "--rounds=2", *options, f"--output={tmp_path}", "--models", "LED", "LongT5"]
    monkeypatch.setattr(sys, "argv", line)
    peers.main()
    text = capsys.readouterr().out
    assert "## What is and is not alike" in text and "| deep_blockwise" not in text
    results = json.loads((tmp_path / "peers.json").read_text())["results"]
    failed = results["LED"]["times"]["encoding"]["LED"]
    assert failed["median"] is None and failed["failure"] == "out of memory, needs more than 20 GiB"
    assert results["LED"]["memory"]["encoding"] == failed["failure"]
    others = [results["LongT5"]["times"][work][name] for work in peers.WORK for name in ("deeppyramidion", "LongT5")]
    assert all(times["median"] > 0 and not times["failure"] for times in others)
    assert results["LED"]["times"]["training"]["LED"]["rounds"] == 1 and results["LED"]["memory"]["generation"] > 0
    assert text.count("| out of memory, needs more than 20 GiB") == 2 and "nan" not in text
    assert (tmp_path / "peers.png").stat().st_size > 5000
    assert math.isclose(results["LongT5"]["times"]["encoding"]["LongT5"]["rounds"], 2)
    monkeypatch.setattr(peers, "measured", lambda *_: 1 / 0)  # results in the output are reused
    peers.main()
    assert text.endswith(capsys.readouterr().out.partition("## Encoding")[2])


@pytest.mark.parametrize("option, message", [("--length=100", "multiple of 64"), ("--tokens=0", "at least 1")])
def test_invalid_sizes_are_refused(modules, monkeypatch, capsys, option, message):
    monkeypatch.setattr(sys, "argv", ["peers.py", "--device=cpu", option])
    with pytest.raises(SystemExit):
        modules[1].main()
    assert message in capsys.readouterr().err


def test_models_are_measured_again_with_other_options(modules, monkeypatch, tmp_path, capsys):
    peers, asked = modules[1], []
    times = {work: dict.fromkeys(NAMES, modules[0].summarize([1.0])) for work in peers.WORK}
    found = {"parameters": 1, "vectors": 1, "window": "", "rest": "", "memory": dict.fromkeys(peers.WORK, 1)}
    monkeypatch.setattr(
        peers, "measured", lambda name, args: asked.append((name, args.tokens)) or {**found, "times": times}
    )
    for tokens in ("4", "4", "20"):
        line = ["peers.py", "--device=cpu", "--models", "LED", f"--tokens={tokens}", f"--output={tmp_path}"]
        monkeypatch.setattr(sys, "argv", line)
        peers.main()
    assert asked == [(name, tokens) for tokens in (4, 20) for name in ("deeppyramidion", "LED")]
    assert set(json.loads((tmp_path / "peers.json").read_text())["results"]) == {"deeppyramidion", "LED"}


def test_target_size_sets_the_maximum_summary_length(modules):
    sizes = modules[1].Sizes(width=32, length=256, vocabulary=100, target=2000)
    with torch.device("meta"):
        assert modules[1].peer_models.ours(NAMES[0], sizes, "meta").model.decoder.max_target_positions == 2000
