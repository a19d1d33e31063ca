"""Tests of the marks of summary words that the document does not contain."""

import dataclasses

import pytest

from pyramidion_fairseq.apps.explain.explanation import explain_summary
from pyramidion_fairseq.apps.explain.unsupported import mark_unsupported, normal_form
from tests.helpers.provenances import RECORD, SUMMARY, provenance

TEXT = "The (Decoder) reads 12.5% of IL\u20116; Müller's co-workers saw it in Straße 7."


@pytest.mark.parametrize(
    "word, kind",
    [
        ("decoder", ""),
        ("DECODER,", ""),
        ("12.5", ""),
        ("13.5%", "number"),
        ("12", "number"),  # a part of a number does not count as the number
        ("il-6", ""),
        ("IL-10", "number"),
        ("Müller\u2019s", ""),
        ("Mu\u0308ller's", ""),  # the same letters, written in two characters
        ("STRASSE", ""),
        ("7", ""),
        ("\u0668", "number"),
        ("Meier", "capitalised"),
        ("mRNA", "word"),
        ("DNA", "capitalised"),
        ("moreover", "word"),
        ("workers", "word"),
        ("...", ""),
        ("\ufffd", ""),
        ("\u2116", "capitalised"),  # a symbol whose form NFKC is "No"
        ("\u2103", "capitalised"),  # "°C"
        ("\u338f", "word"),  # "kg"
        ("\u2122,", "capitalised"),  # "TM"
        ("\u3380\u00b2", "number"),
    ],
)
def test_mark_unsupported_classifies_a_word(word, kind):
    assert mark_unsupported(["the", word], TEXT.split()) == ("", kind)


def test_capitals_at_the_start_of_a_sentence_do_not_count_as_names():
    text = "Moreover it reads Novel (things.) Thus DNA is new. DNA is. \u201cSo? So"
    assert mark_unsupported(text.split(), ["reads", "is", "it"]) == (
        "word", "", "", "capitalised", "word", "word", "capitalised", "", "word", "capitalised", "", "word", "word"
    )  # fmt: skip


def test_empty_document_supports_no_words():
    assert mark_unsupported(["a", "1", "-"], []) == ("word", "number", "") and mark_unsupported([], ["a"]) == ()
    assert normal_form("\u201c(A-b)!\u201d") == "a-b" and normal_form("--") == ""


def test_words_that_were_not_read_support_the_summary():
    summary = dataclasses.replace(SUMMARY, words=("E,", "y"))
    explanation = explain_summary(provenance(RECORD, summary=summary), None)
    assert explanation.truncated == 1 and explanation.document.words[-1] == "e"
    assert explanation.summary.unsupported == ("", "word")


def test_note_says_that_unlisted_words_were_not_compared():
    note = explain_summary(provenance(RECORD, left_out=3), None).model.note
    assert note.startswith(
        "The last 3 words of the document are not listed, and the summary was not compared with them."
    )
