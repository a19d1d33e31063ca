"""Tests of the symbols that mark the language of documents and summaries."""

from argparse import Namespace

import pytest

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.markers import Markers, marker_of, markers_of
from tests.helpers.models import make_dictionary


@pytest.fixture
def dictionary():
    made = make_dictionary(40)
    for language in ("en_XX", "fr_XX"):
        made.add_symbol(language)
    return made


def options(prepend_bos, document="", summary=""):
    return Namespace(prepend_bos=prepend_bos, document_marker=document, summary_marker=summary)


def test_markers_of_returns_the_symbols_that_a_model_adds(dictionary):
    en, fr = (dictionary.index(language) for language in ("en_XX", "fr_XX"))
    for given, expected in (
        (None, Markers()),  # a model of another package
        (options(False), Markers()),
        (options(True), Markers(0, 0)),
        (options(True, "en_XX"), Markers(en, 0)),
        (options(True, "en_XX", "fr_XX"), Markers(en, fr)),
        (options(False, "en_XX", "fr_XX"), Markers(None, None, en)),  # the decoder starts from the summary's symbol
        (options(False, "", "fr_XX"), Markers()),
    ):
        assert markers_of(given, dictionary, Markers()) == expected


def test_markers_of_a_model_without_any_returns_the_given_markers(dictionary):
    before = Markers(7, 8, 9)
    for given in (None, options(False), options(False, "", "fr_XX")):
        assert markers_of(given, dictionary, before) == before


def test_unknown_marker_symbols_are_refused(dictionary):
    with pytest.raises(PyramidionError, match=r"^--document-marker xx: the dictionary has no such symbol$"):
        markers_of(options(False, "xx"), dictionary, Markers())
    with pytest.raises(PyramidionError, match=r"^--summary-marker <xx>: the dictionary has no such symbol$"):
        marker_of(dictionary, "<xx>", "--summary-marker")
