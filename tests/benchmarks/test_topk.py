"""benchmarks/topk.py: the quality of the operator on the paper's grid, by hand and with a tolerance."""

import importlib
import importlib.util

import pytest
import torch

from pyramidion_fairseq.functional import hard_topk
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def topk():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        spec = importlib.util.spec_from_file_location("topk_benchmark", ROOT / "benchmarks" / "topk.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def sorting(topk):
    return importlib.import_module("topk_sorting")


@pytest.mark.paper("fig-5")
def test_the_published_grid_is_measured(topk):
    lengths, counts = topk.published_axes()
    assert lengths[0] == 16 and lengths[-1] == 16384 and counts == [2**i for i in range(1, 12)]
    assert topk.published_cell("our_topk", 8192, 512, "nccs_mean") == pytest.approx(0.971, abs=0.001)
    assert topk.published_cell("iter_topk", 16, 2, "nccs_mean") == 0.37349


@pytest.mark.paper("nccs")
def test_nccs_by_hand(topk):
    """The mean over the k best of the largest cosine with a selected one: 1 for themselves, whatever their order."""
    embeddings = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [-1.0, 0.0]]])
    best = embeddings[:, :2]
    assert topk.chamfer_similarity(best, best.flip(1) * 5).tolist() == [1]
    half = 0.5**0.5
    assert topk.chamfer_similarity(best, embeddings[:, 2:]).tolist() == pytest.approx([half])
    scores = torch.tensor([[0.1, 0.2, 0.9, 0.8]])
    selected = hard_topk(embeddings, scores, 2).embeddings
    assert topk.chamfer_similarity(embeddings[:, 2:], selected).tolist() == pytest.approx([1])


def test_the_iterative_baseline_is_the_published_one(topk):
    """Figure 6's values are those of temperature 0.5; with 1, at which the read-me hints, they are 0.02 lower."""
    differences = []
    for length, k in ((16, 4), (32, 8), (64, 16), (128, 32), (256, 64)):
        (mean, _) = topk.quality(["iterative"], length, k, "cpu")["iterative"]
        differences.append(mean - topk.published_cell("iter_topk", length, k, "nccs_mean"))
    assert abs(sum(differences) / len(differences)) < 0.005 and max(map(abs, differences)) < 0.015


def test_sorting_saves_most_of_the_error_where_scores_are_not_sorted_before(sorting):
    """Appendix B.5: once or before every round is the same; d = 32, base 20."""
    found = [sorting.sorting_quality(256, k, "cpu") for k in (2, 8, 32)]
    errors = {name: sum(1 - cell[name] for cell in found) for name in sorting.SORTINGS}
    assert 1 - errors["every round"] / errors["never"] == pytest.approx(0.69, abs=0.04)
    assert errors["once"] == pytest.approx(errors["every round"], rel=0.02)


def test_sorting_changes_nothing_where_scores_are_sorted_before(sorting):
    """So that the benchmark of Figure 6, whose scores are sorted as the authors' are, cannot show what it is worth."""
    cell = sorting.sorting_quality(256, 32, "cpu", documents=32, sorted_before=True)
    assert cell["never"] == pytest.approx(cell["every round"], abs=0.002)
