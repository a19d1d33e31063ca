"""Packages that fairseq imports for two tasks are imported when these call them."""

import sys

import numpy as np
import pytest

from pyramidion_fairseq.utils.imported_later import LaterModule, metrics_imported_later

LATER = ("sklearn.metrics", "scipy.stats")


@pytest.fixture
def nothing_imported(monkeypatch):
    """As in a new interpreter; what was imported comes back after the test."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("fairseq", "sklearn") or name == "scipy.stats":
            monkeypatch.delitem(sys.modules, name)


def test_functions_are_the_real_ones_when_they_are_called(nothing_imported):
    with metrics_imported_later():
        from scipy.stats import pearsonr
        from sklearn import metrics
        from sklearn.metrics import f1_score

        assert all(isinstance(sys.modules[name], LaterModule) for name in LATER)
    assert not any(name in sys.modules for name in LATER)
    assert f1_score([1, 0, 1], [1, 0, 0]) == pytest.approx(2 / 3)
    assert metrics.roc_curve([0, 1, 1], [0.1, 0.4, 0.8])[1].tolist() == [0, 0.5, 1, 1]
    assert pearsonr(np.arange(3.0), np.array([0.0, 2.0, 1.0]))[0] == pytest.approx(0.5)
    import scipy.stats
    import sklearn.metrics

    assert not isinstance(scipy.stats, LaterModule) and not isinstance(sklearn.metrics, LaterModule)


def test_an_error_leaves_nothing_behind(nothing_imported):
    with pytest.raises(ImportError), metrics_imported_later():
        import sklearn.no_such_module  # noqa: F401
    assert "sklearn" not in sys.modules and not any(name in sys.modules for name in LATER)


@pytest.mark.parametrize("name", ["fairseq", *LATER])
def test_what_has_been_imported_is_left_alone(nothing_imported, monkeypatch, name):
    there = LaterModule(name)
    monkeypatch.setitem(sys.modules, name, there)
    with metrics_imported_later():
        assert sys.modules[name] is there and "sklearn" not in sys.modules
    assert sys.modules[name] is there
