"""Tests, without Ray, of the class that Ray Data's workers run: it maps batches of columns to batches of columns."""

import json

import numpy as np
import pytest

from pyramidion_fairseq.apps.ray.summaries import Summaries, plain
from pyramidion_fairseq.errors import PyramidionError
from tests.helpers.summaries import article, write_model


@pytest.fixture(scope="module")
def summaries(tmp_path_factory):
    folder = write_model(tmp_path_factory.mktemp("folder"))
    return Summaries(str(folder / "checkpoint_best.pt"), device="cpu", min_len=3, max_len_b=12)


def columns(**lists):
    return {name: np.array(values, dtype=object) for name, values in lists.items()}


def test_summaries_equal_those_of_the_hub_interface(summaries):
    texts = [article(3), article(1, seed=2), ""]
    found = summaries(columns(id=["a", "b", "c"], document=texts, other=[1, 2, 3]))
    expected = summaries.hub.summarize(texts, min_len=3, max_len_b=12)
    assert list(found) == ["id", "summary", "score", "tokens", "error"]
    assert list(found["summary"]) == [summary.text for summary in expected] and found["summary"][0]
    assert list(found["tokens"]) == [len(summary.tokens) for summary in expected]
    assert found["score"][:2] == pytest.approx([summary.score for summary in expected[:2]], abs=1e-5)
    assert (
        np.isnan(found["score"][2]) and list(found["error"]) == ["", "", ""] and list(found["id"]) == ["a", "b", "c"]
    )


def test_failed_documents_keep_their_rows_with_an_error(summaries, monkeypatch):
    """Check a document without text and one that fails; the others get the summaries that they get alone."""
    stock = summaries.hub.summarize

    def summarise(documents, **options):
        if any("huge" in document.sentences[0] for document in documents):
            raise PyramidionError("memory on cpu is too small for a document of 12 tokens")
        return stock(documents, **options)

    monkeypatch.setattr(summaries.hub, "summarize", summarise)
    found = summaries(columns(document=[article(2), None, "a huge one", article(1)]))
    assert list(found["error"]) == [
        "", "field document is null", "memory on cpu is too small for a document of 12 tokens", "",
    ]  # fmt: skip
    assert [bool(text) for text in found["summary"]] == [True, False, False, True]
    alone = [stock(article(sentences), min_len=3, max_len_b=12)[0].text for sentences in (2, 1)]
    assert list(found["summary"])[::3] == alone


def test_invalid_json_lines_get_an_error_in_their_own_row(summaries, monkeypatch):
    monkeypatch.setattr(summaries, "json_lines", True)
    lines = [json.dumps({"id": 7, "document": article(2)}), "{", "[1]", json.dumps({"document": "x", "id": "b"})]
    found = summaries(columns(text=lines))
    assert list(found["error"]) == ["", "not JSON", "not a JSON object but list", ""]
    assert list(found["id"]) == ["7", None, None, "b"] and found["summary"][0]
    found = summaries(columns(text=lines[:1]))
    assert found["id"].tolist() == [7] and found["id"].dtype == np.int64


def test_null_cells_get_an_error_in_their_own_row(summaries, monkeypatch):
    monkeypatch.setattr(summaries, "json_lines", True)
    line = json.dumps({"document": article(2)})
    errors = summaries(columns(text=[None, line, float("nan"), 3]))["error"]
    assert list(errors) == ["field text is null", "", "field text is null", "not a line of JSON but int"]
    assert list(summaries(columns(document=[line]))["error"]) == ["there is no column text"]


def test_ids_are_texts_or_integers_as_those_of_documents(summaries, monkeypatch):
    """Check an id that occurs twice, and others that are neither; integers are floats if one of them is null."""
    found = summaries({"id": np.array([1, float("nan"), 3]), "text": np.array(["a", "b", "c"], object)})
    assert list(found["id"]) == ["1", None, "3"]
    monkeypatch.setattr(summaries, "json_lines", True)
    starts = [
        '{"id": 1, "id": 2',
        '{"id": [1, 2]',
        '{"id": {"$oid": "x"}',
        '{"id": 1.5',
        '{"article_id": "a", "id": 7',
    ]
    found = summaries(columns(text=[start + ', "text": "word"}' for start in starts]))
    assert list(found["id"]) == [None, None, None, None, "7"] and list(found["error"]) == [""] * 5
    assert list(found["article_id"]) == [None, None, None, None, "a"]


def test_plain_converts_cells_to_json_values():
    cells = [np.array(["a", "b"], object), np.float64("nan"), np.int64(3), "x", None, np.array([np.array(["a"])])]
    assert [plain(cell) for cell in cells] == [["a", "b"], None, 3, "x", None, [["a"]]]
