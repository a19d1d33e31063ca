"""Tests of benchmarks/explain.py: results are kept without a plot, and options without effect are refused."""

import json
import sys

import pytest


@pytest.fixture
def explain():
    import explain

    return explain


def test_explain_benchmark_writes_results_without_matplotlib(explain, monkeypatch, tmp_path):
    sizes = {"encoder_layers": 2, "decoder_layers": 1, "max_source_positions": 64, "pooling_schedule": "1:16"}
    sizes |= {f"{side}_{name}": 16 for side in ("encoder", "decoder") for name in ("embed_dim", "ffn_embed_dim")}
    monkeypatch.setitem(explain.SIZES, "reduced", {**sizes, "block_size": 16})
    monkeypatch.setattr(explain, "WORDS", 50)
    monkeypatch.setattr(explain, "CASES", [(1, 4)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    monkeypatch.setattr(explain, "draw", lambda results: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["explain.py", "--device=cpu", "--rounds=1", f"--output={tmp_path}"])
    explain.main()
    (row,) = json.loads((tmp_path / "explain.json").read_text())["results"]
    assert row["summary tokens"] == 4 and row["ratio"] > 0


def test_explain_benchmark_has_no_precision_option(explain, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["explain.py", "--device=cpu", "--precision=bf16"])
    with pytest.raises(SystemExit):
        explain.main()
    assert "unrecognized arguments: --precision=bf16" in capsys.readouterr().err
