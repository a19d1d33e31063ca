"""benchmarks/explain.py: what it measures is kept, and it has no option that changes nothing."""

import json
import sys

import pytest


@pytest.fixture
def explain():
    import explain

    return explain


def test_results_are_kept_where_nothing_can_be_drawn(explain, monkeypatch, tmp_path):
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


def test_a_precision_that_would_not_be_computed_in_is_refused(explain, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["explain.py", "--device=cpu", "--precision=bf16"])
    with pytest.raises(SystemExit):
        explain.main()
    assert "unrecognized arguments: --precision=bf16" in capsys.readouterr().err
