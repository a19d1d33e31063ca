"""Tests of whether scorers learn which tokens to keep: a fast version of benchmarks/selection.py."""

import json
import sys

import pytest
import torch


@pytest.fixture
def selection():
    import selection

    return selection


def test_make_documents_marks_one_token_in_sixteen(selection):
    tokens, marked, summaries = selection.make_documents(50, torch.Generator().manual_seed(0))
    assert (marked.sum(dim=1) == selection.LENGTH / 16).all()
    assert torch.equal(tokens[marked].view(50, -1), summaries)
    words = selection.SPECIAL + selection.CONTENT
    assert (tokens[marked] < words).all() and (tokens[~marked] >= words).all()


def test_kept_tokens_are_the_heaviest_of_each_slot(selection):
    slots = torch.tensor([[0, 1, 0, 1, 0, 0]])
    weights = torch.tensor([[0.2, 0.3, 0.8, 0.7, 0.0, 0.0]])
    assert selection.kept_tokens(slots, weights, 2).tolist() == [[False, False, True, True, False, False]]
    assert selection.kept_tokens(slots, weights, 3).sum() == 2  # a slot without tokens keeps none


@pytest.mark.paper("learns")
def test_linear_scorer_learns_to_keep_the_marked_tokens(selection):
    result = selection.train("linear", "successive_halving", steps=300, batch=16, rate=1.5e-3, seed=2)
    assert result["recall"] > 0.9 and result["scorer_gradient"] > 0


def test_random_scorer_has_the_recall_of_chance(selection):
    result = selection.train("random", "successive_halving", steps=20)
    chance, words = selection.KEPT / selection.LENGTH, 256 * selection.MARKED
    assert result["recall"] == pytest.approx(chance, abs=4 * (chance * (1 - chance) / words) ** 0.5)
    assert result["scorer_gradient"] is None


@pytest.mark.paper("hard-no-gradient")
def test_hard_topk_gives_its_scorer_no_gradient(selection):
    result = selection.train("linear", "hard_topk", steps=20)
    assert result["scorer_gradient"] == 0.0


def test_selection_benchmark_trains_and_reports_a_variant(selection, monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys, "argv", ["selection.py", "--steps", "2", "--poolers", "mean_window", "--output", str(tmp_path)]
    )
    selection.main()
    found = json.loads((tmp_path / "selection.json").read_text("utf-8"))["results"]
    (result,) = found["variants"]
    assert result["pooler"] == "mean_window" and result["recall"] is None and found["chance"] == 0.125
    assert "| -      | mean_window | -       |" in (tmp_path / "selection.md").read_text("utf-8")
    selection.plot([{**result, "scorer": "linear", "recall": 0.5}]).savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "words, message",
    [
        (["--steps=-5"], "--steps must be at least 1"),
        (["--copying", "--poolers", "hard_topk"], "--copying trains with successive_halving alone"),
        (["--device=cuda"], "invalid choice: 'cuda'"),
        (["--rounds=5"], "unrecognized arguments: --rounds=5"),
    ],
)
def test_options_without_effect_are_refused(selection, monkeypatch, tmp_path, capsys, words, message):
    (tmp_path / "selection.json").write_text("precious")
    monkeypatch.setattr(sys, "argv", ["selection.py", *words, f"--output={tmp_path}"])
    monkeypatch.setattr(selection.measure, "restart_with_allocator", lambda: None)
    with pytest.raises(SystemExit):
        selection.main()
    assert message in capsys.readouterr().err and (tmp_path / "selection.json").read_text() == "precious"
