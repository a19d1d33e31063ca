"""Tests of benchmarks/operators.py: every pooler is measured, cells are kept, and quality equals a plain loop."""

import json
import re
import sys
from argparse import Namespace

import pytest
import torch

from pyramidion_fairseq.poolers import POOLERS
from tests.helpers.paths import ROOT


@pytest.fixture
def operators(monkeypatch):
    import operators

    monkeypatch.setattr(operators, "SIZES", [(32, 8)])
    monkeypatch.setattr(operators, "CELLS", [(16, 4)])
    monkeypatch.setattr(operators, "TASKS", [(32, 0.5, 1), (16, 0.5, 1)])
    return operators


def run(operators, monkeypatch, folder, *options):
    argv = ["operators.py", "--output", str(folder), "--rounds", "1", "--seeds", "1", *options]
    monkeypatch.setattr(sys, "argv", argv)
    operators.main()


def test_every_pooler_is_measured_once(operators, monkeypatch, tmp_path, capsys):
    run(operators, monkeypatch, tmp_path)
    text = (tmp_path / "operators.md").read_text("utf-8")
    for name in POOLERS.names():
        assert text.count(f"| {name} ") + text.count(f" {name} |") >= 3
    cells = json.loads((tmp_path / "operators_cells.json").read_text("utf-8"))
    assert len(cells) == 4 * len(POOLERS.names()) - 1
    assert (tmp_path / "operators.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(operators, "cost", None)  # nothing is measured again
    monkeypatch.setattr(operators, "quality", None)
    monkeypatch.setattr(operators.selection, "train", None)
    run(operators, monkeypatch, tmp_path)
    assert (tmp_path / "operators.md").read_text("utf-8") == text


def test_cost_skips_operators_with_too_many_shares(operators, monkeypatch):
    monkeypatch.setattr(operators, "SHARES", 100)
    assert operators.cost("gumbel_topk", 32, 8, 1, "cpu") is None
    assert operators.cost("hard_topk", 32, 8, 1, "cpu")["operations"] > 5


def test_quality_of_mean_window_matches_a_plain_loop(operators):
    """Check windows of four, whose means are computed here."""
    generator = torch.Generator().manual_seed(16 * 10_000 + 4)
    values = []
    for _ in range(16):
        x = torch.rand(16, 16, 32, generator=generator) * 2 - 1
        scores = torch.rand(16, 16, generator=generator)
        for document, rating in zip(x, scores):
            means = document.view(4, 4, 32).mean(dim=1)
            best = sorted(range(16), key=lambda i: -rating[i])[:4]
            cosines = [max(torch.cosine_similarity(document[i], mean, dim=0) for mean in means) for i in best]
            values.append(sum(cosines) / 4)
    assert operators.quality("mean_window", 16, 4, "cpu") == pytest.approx(sum(map(float, values)) / 256, abs=1e-5)


def test_loss_on_text_trains_the_small_scale_rows_of_each_pooler(operators, monkeypatch, tmp_path):
    """Check that each pooler trains in the plain model, and with a pointer if its record is exact."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from small_scale import scales, stages

    trained = []

    def validate(run, row):
        trained.append(row)
        assert (run.scale.updates, run.scale.warmup, run.seed, run.device) == (40, 8, 1, "cpu")
        assert run.folder(row).is_dir()
        return {"bits_per_token": len(trained)}

    monkeypatch.setattr(stages, "train", lambda run, row: None)
    monkeypatch.setattr(stages, "validate", validate)
    run(operators, monkeypatch, tmp_path, "--parts", "text", "--data", str(tmp_path), "--updates", "40")
    for name in POOLERS.names():
        rows = [row for row in trained if f"+pooler={name}" in row]
        assert len(rows) == (name != operators.SLOWEST) * (1 + POOLERS.get(name).exact_record)
        for row in rows:
            options = {**vars(operators.PyramidionConfig()), **scales.scaled(row, scales.SCALES["cpu_long"])}
            assert operators.complete(Namespace(**options)).pooler == name
    text = (tmp_path / "operators.md").read_text("utf-8")
    assert re.search(r"^\| gumbel_topk +\| 5 +\| -", text, re.M)
    monkeypatch.setattr(stages, "train", None)  # nothing is trained again
    run(operators, monkeypatch, tmp_path, "--parts", "text", "--data", str(tmp_path), "--updates", "40")


def test_loss_on_text_requires_data(operators, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(operators, monkeypatch, tmp_path, "--parts", "text")
    assert "--data" in capsys.readouterr().err


def test_make_documents_has_the_given_length_and_noise(operators):
    tokens, marked, summaries = operators.selection.make_documents(64, torch.Generator().manual_seed(0), 64, 0.5)
    assert tokens.shape == (64, 64) and (marked.sum(dim=1) == 4).all()
    changed = (tokens[marked].view(64, 4) != summaries).float().mean()
    assert changed.item() == pytest.approx(0.5 * 31 / 32, abs=0.1)


def test_cells_depend_on_rounds_corpus_and_device(operators, monkeypatch, tmp_path):
    """Check that other rounds, corpora and devices are measured again, and that the figure has the given seeds."""
    asked, drawn = [], []
    monkeypatch.setattr(operators, "cost", lambda name, *given: asked.append(given[2:]) or dict.fromkeys("abcd", 1.0))
    monkeypatch.setattr(operators, "bits", lambda row, updates, seed, data: asked.append(str(data)) or 1.0)
    monkeypatch.setattr(operators, "figure", lambda names, cells, args: drawn.append(args.seeds))
    parts = ["--poolers", "hard_topk", "--parts", "cost", "text", "--data"]
    run(operators, monkeypatch, tmp_path, *parts, "one")
    run(operators, monkeypatch, tmp_path, *parts, "one", "--rounds", "3")
    run(operators, monkeypatch, tmp_path, *parts, "other", "--seeds", "7")
    assert asked == [(1, "cpu"), "one", "one", (3, "cpu"), "other", "other"]
    assert drawn == [[1], [1], [7]]
    assert operators.nccs_cell("hard_topk", 16, 4, Namespace(device="cpu")) != operators.nccs_cell(
        "hard_topk", 16, 4, Namespace(device="cuda")
    )


def test_committed_cells_have_the_names_that_the_command_reuses(operators):
    cells = json.loads((ROOT / "benchmarks/results/operators_cpu/operators_cells.json").read_text("utf-8"))
    args = Namespace(device="cpu", rounds=5, data="data/pubmed", updates=300, seeds=[1])
    assert operators.cost_cell("hard_topk", 2048, 512, args) in cells
    assert operators.nccs_cell("hard_topk", 64, 16, args) in cells
    assert operators.recall_cell("hard_topk", (128, 0.25, 400), 3) in cells
    assert operators.text_cell(operators.text_row(operators.PLAIN, "hard_topk"), args) in cells
