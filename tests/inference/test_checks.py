"""Tests of the warnings about documents that a model cannot read well, and about empty summaries."""

import pytest

from pyramidion_fairseq import PyramidionModel
from pyramidion_fairseq.inference.checks import DocumentChecks
from pyramidion_fairseq.text import Document

LIMITS = {"min_len": 2, "max_len_b": 12}


def document(identifier=None):
    return Document.from_record({"article_id": identifier, "text": "alpha"})


@pytest.mark.parametrize(("unknown", "is_told"), [(0, False), (1, False), (2, True), (100, True)])
def test_unknown_tokens_are_told_above_one_percent(caplog, unknown, is_told):
    DocumentChecks(3).check(document(), [3] * unknown + [5] * (100 - unknown), "text")
    expected = f"{unknown}% of the tokens of a document are unknown to the model" if is_told else ""
    assert expected in caplog.text and bool(caplog.records) == is_told


def test_first_of_several_documents_is_named(caplog):
    checks = DocumentChecks(3)
    for identifier in ("a", "b", "c"):
        tokens, summary = ([5], "") if identifier == "a" else ([3, 3, 3, 5], "text")
        checks.check(document(identifier), tokens, summary)
    checks.check(document("d"), [], "")
    assert [record.message.split(",")[0] for record in caplog.records] == [
        "the summary of document a is empty",
        "75% of the tokens of document b are unknown to the model",
    ]


def test_summarize_warns_of_another_script_and_not_of_its_own(caplog):
    hub = PyramidionModel.from_pretrained("pubmed-small")
    hub.summarize(["Cells grew well in medium.", ""], **LIMITS)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    hub.summarize(["Клетки хорошо росли в среде.", "Это длинный текст."], **LIMITS)
    assert caplog.text.count("are unknown to the model, which reads them as gaps") == 1
