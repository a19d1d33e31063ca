"""Tests of benchmarks/inference_precision.py, which does the same work in float32 and bf16."""

import json
import sys
from argparse import Namespace

import pytest
import torch


@pytest.fixture
def benchmark():
    import inference_precision

    return inference_precision


def test_float32_and_bf16_are_timed_for_encoding_and_generation(benchmark, monkeypatch, tmp_path, capsys):
    sizes = ["--width=32", "--length=256", "--batch=2", "--tokens=4", "--rounds=2"]
    monkeypatch.setattr(sys, "argv", ["inference_precision.py", "--device=cpu", *sizes, f"--output={tmp_path}"])
    benchmark.main()
    results = json.loads((tmp_path / "inference_precision.json").read_text("utf-8"))["results"]
    assert list(results) == ["encoding 1 x 256 tokens", "generation: 2 documents, 4 tokens, beam 2"]
    for times in results.values():
        assert list(times) == ["float32", "bf16"] and all(
            of["median"] > 0 and of["rounds"] == 2 for of in times.values()
        )
    ratio = [times["float32"]["median"] / times["bf16"]["median"] for times in results.values()]
    text = capsys.readouterr().out
    assert all(f"| {value:.3g} " in text for value in ratio)


def test_models_are_converted_to_the_precision(benchmark, monkeypatch):
    seen = []
    monkeypatch.setattr(benchmark.peer_models, "encoding", lambda name, model, tokens: seen.append(model))
    args = Namespace(width=32, length=256, tokens=4, device="cpu", batch=2)
    for precision in ("float32", "bf16"):
        benchmark.calls(precision, args)
    assert [next(model.parameters()).dtype for model in seen] == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("option", ["--length=100", "--length=0", "--width=4", "--batch=0", "--tokens=0"])
def test_invalid_sizes_are_refused(benchmark, monkeypatch, capsys, option):
    monkeypatch.setattr(sys, "argv", ["inference_precision.py", "--device=cpu", option])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--length must be a multiple of 64, --width of 8; --batch at least 1" in capsys.readouterr().err
