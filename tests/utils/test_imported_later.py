"""Tests that packages which fairseq imports for two tasks are imported only when these call them."""

import builtins
import subprocess
import sys

import numpy as np
import pytest

from pyramidion_fairseq.utils.imported_later import IMPORTERS, LATER, LaterModule, metrics_imported_later
from tests.helpers.paths import ROOT

STATEMENTS = "from sklearn import metrics\nfrom sklearn.metrics import f1_score\nfrom scipy.stats import pearsonr\n"


@pytest.fixture
def nothing_imported(monkeypatch):
    """Remove the packages from sys.modules, as in a new interpreter, until the end of the test."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "sklearn" or name == "scipy.stats":
            monkeypatch.delitem(sys.modules, name)


def imported(name):
    """Run STATEMENTS in the context as the module of this name does, and return its names."""
    names = {"__name__": name}
    with metrics_imported_later():
        exec(STATEMENTS, names)  # noqa: S102
    return names


@pytest.mark.parametrize("importer", IMPORTERS)
def test_postponed_functions_are_imported_when_they_are_called(nothing_imported, importer):
    names = imported(importer)
    assert isinstance(names["metrics"], LaterModule) and not any(name in sys.modules for name in LATER)
    assert names["f1_score"]([1, 0, 1], [1, 0, 0]) == pytest.approx(2 / 3)
    assert names["metrics"].roc_curve([0, 1, 1], [0.1, 0.4, 0.8])[1].tolist() == [0, 0.5, 1, 1]
    assert names["pearsonr"](np.arange(3.0), np.array([0.0, 2.0, 1.0]))[0] == pytest.approx(0.5)
    assert all(name in sys.modules and not isinstance(sys.modules[name], LaterModule) for name in LATER)


def test_other_importers_and_imported_packages_are_not_postponed(nothing_imported):
    names = imported("fairseq.tasks.another")
    import sklearn.metrics

    assert names["metrics"] is sklearn.metrics and names["f1_score"] is sklearn.metrics.f1_score
    assert imported(IMPORTERS[0])["f1_score"] is sklearn.metrics.f1_score


def test_error_in_the_context_restores_the_import_function(nothing_imported):
    before = builtins.__import__
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), metrics_imported_later():
        import sklearn.no_such_module  # noqa: F401
    assert builtins.__import__ is before


def test_importing_the_package_does_not_import_the_postponed_packages():
    code = f"import sys, pyramidion_fairseq; print([name for name in {(*LATER, 'pandas')} if name in sys.modules])"
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"
