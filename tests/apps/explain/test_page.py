"""Tests of the page as a file: self-contained, escaped, and equal to the explanation."""

import base64
import hashlib
import math
import re
from dataclasses import replace

import pytest

from pyramidion_fairseq.apps.explain import Explanation, Section, Stage
from pyramidion_fairseq.apps.explain.page import UNREAD_LISTED, render, render_beside, render_many
from tests.helpers.pages import HOSTILE, Structure, data_of, hostile_explanation
from tests.helpers.samples import explain_text, with_copies

TEXT = "Pooling keeps the best tokens. The decoder reads what is left of them. Nothing else is read."


DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def test_characters_that_change_text_direction_are_replaced(explanation):
    words = (f"evil{DIRECTIONS}txt", *explanation.document.words[1:])
    document = replace(explanation.document, words=words, sections=(Section(f"one{DIRECTIONS}", 0, 3),))
    page = render(replace(explanation, title=f"a{DIRECTIONS}b", document=document))
    assert not set(DIRECTIONS) & set(page)
    marks, (data,) = "\ufffd" * len(DIRECTIONS), data_of(page)
    assert data["title"] == f"a{marks}b" and data["document"]["words"][0] == f"evil{marks}txt"
    assert data["document"]["sections"][0]["name"] == f"one{marks}"
    assert Structure(page).all("title")[0][2].startswith(f"a{marks}b")


@pytest.fixture
def explanation():
    return explain_text(TEXT, "the decoder reads tokens", truncated=4)


def test_page_is_self_contained(explanation):
    structure = Structure(render(explanation))
    used = [(tag, name) for tag, attrs, _ in structure.elements for name in attrs if name in ("src", "href", "action")]
    assert used == [("a", "href")] * 2 and all(attrs["href"].startswith("#") for _, attrs, _ in structure.all("a"))
    assert not structure.all("link") and not re.search(r"url\(|@import|https?:", structure.all("style")[0][2])


def test_policy_allows_only_the_pages_own_script_and_style(explanation):
    structure = Structure(render(explanation))
    (policy,) = [a["content"] for _, a, _ in structure.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    (style,), (data, script) = structure.all("style"), structure.all("script")
    for rule, (_, attributes, text) in {"style-src": style, "script-src": script}.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'" and attributes == {}
    assert data[1] == {"type": "application/json", "id": "data"}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["require-trusted-types-for"] == "'script'"


def test_data_of_the_page_equals_the_explanation(explanation):
    (data,) = data_of(render(explanation))
    assert data.pop("unlisted") == 0
    shown = Explanation.from_dict(data)
    assert shown.document == explanation.document and shown.summary.words == explanation.summary.words
    assert shown.lengths == explanation.lengths and shown.model == explanation.model and shown.truncated == 4
    for stage, expected in zip(shown.stages, explanation.stages):
        assert stage.name == expected.name and stage.weights == pytest.approx(expected.weights, rel=1e-3)
    for row, expected in zip(shown.summary.sources, explanation.summary.sources):
        assert [word for word, _ in row] == [word for word, _ in expected]


def test_copied_words_are_in_the_data_of_the_page(explanation):
    (plain,) = data_of(render(explanation))
    assert plain["summary"]["copied"] == plain["summary"]["places"] == [] and plain["model"]["points"] is False
    copied = with_copies(explanation, {1: (0.876543, {7: 0.512345, 2: 0.25}), 3: (0.1, {})})
    (data,) = data_of(render(copied))
    assert data["summary"]["copied"] == [0.0, 0.8765, 0.0, 0.1] and data["model"]["points"] is True
    assert data["summary"]["places"] == [[], [[7, 0.5123], [2, 0.25]], [], []]


def test_page_has_a_hidden_legend_of_copied_words(explanation):
    structure = Structure(render(explanation))
    (legend,) = [attrs for _, attrs, _ in structure.all("p") if attrs.get("id") == "copied-legend"]
    assert "hidden" in legend  # until the script finds a model with a pointer
    (sample,) = [text for _, attrs, text in structure.all("span") if attrs.get("class") == "copied"]
    assert sample == "Underlined"


def test_markup_in_a_document_is_escaped():
    page = render(hostile_explanation())
    page.encode("utf-8")
    structure, plain = Structure(page), Structure(render(explain_text(TEXT, "plain")))
    assert [tag for tag, _, _ in structure.elements] == [tag for tag, _, _ in plain.elements]
    assert "window.bad=1>" not in page and "\x00" not in page
    assert not re.search("[<>&\u2028]", structure.all("script")[0][2])
    (data,) = data_of(page)
    assert data["title"] == HOSTILE and data["document"]["words"] == HOSTILE.split(" ")
    shown = HOSTILE.replace("\ud800", "\ufffd").replace("\x00", "\ufffd")
    assert structure.all("title")[0][2] == f"{shown} · summary with its sources"


def test_unread_words_are_listed_up_to_a_limit():
    text = "word " * (UNREAD_LISTED + 500)
    (data,) = data_of(render(explain_text(text, "word", truncated=UNREAD_LISTED + 300)))
    assert len(data["document"]["words"]) == len(data["stages"][0]["weights"]) == 200 + UNREAD_LISTED
    assert (data["truncated"], data["unlisted"]) == (UNREAD_LISTED, 300)
    assert data["document"]["sentences"] == [[0, 200 + UNREAD_LISTED]]


def test_data_of_a_page_without_all_words_can_be_rendered_again():
    long = explain_text("word " * (UNREAD_LISTED + 500), "word", truncated=UNREAD_LISTED + 300)
    sections = Section("one", 0, 100), Section("two", 100, UNREAD_LISTED + 300), Section("three", 2_300, 2_500)
    (data,) = data_of(render(replace(long, document=replace(long.document, sections=sections))))
    del data["unlisted"]  # as the page saves it
    again = Explanation.from_dict(data)
    assert again.document.sections == (Section("one", 0, 100), Section("two", 100, UNREAD_LISTED + 200))
    (shown,) = data_of(render(again))
    assert shown == {**data, "unlisted": 0}


def test_render_beside_shows_several_models_of_one_document(explanation):
    other = replace(explanation, model=replace(explanation.model, name="another"))
    page = render_beside([explanation, other])
    assert [data["model"]["name"] for data in data_of(page)] == ["deeppyramidion", "another"]
    assert Structure(page).all("title")[0][2].startswith("A document")
    kinds = [
        attrs["data-models"]
        for text in (page, render_many([explanation, other]))
        for _, attrs, _ in Structure(text).all("section")
        if attrs.get("id") == "beside"
    ]
    assert kinds == ["true", "false"]
    with pytest.raises(ValueError, match="at least two"):
        render_beside([explanation])
    with pytest.raises(ValueError, match="the same document"):
        render_beside([explanation, explain_text("Another. " + TEXT, "the decoder")])


def test_render_many_shows_several_documents(explanation):
    page = render_many([explanation, replace(explanation, title="Another")])
    assert [data["title"] for data in data_of(page)] == ["A document", "Another"]
    assert Structure(page).all("title")[0][2].startswith("2 documents")
    with pytest.raises(ValueError, match="at least one"):
        render_many([])


def test_home_link_is_escaped(explanation):
    assert Structure(render(explanation, home='/"><b>')).all("a")[-1][1] == {"href": '/"><b>'}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda e: {"stages": (Stage("short", "used", (1.0,)),)}, "stages.weights"),
        (lambda e: {"stages": (replace(e.stages[0], weights=(math.nan,) * 17),)}, "not finite"),
        (lambda e: {"stages": (replace(e.stages[0], weights=(-0.5,) * 17),)}, "negative"),
        (lambda e: {"summary": replace(e.summary, sources=(((17, 1.0),),) * 4)}, "summary.sources"),
        (lambda e: {"summary": replace(e.summary, sources=())}, "summary.sources"),
        (lambda e: {"summary": with_copies(e, {0: (0.5, {17: 0.5})}).summary}, "summary.copied or places"),
        (lambda e: {"summary": replace(e.summary, copied=(0.5,) * 4)}, "summary.copied or places"),
        (lambda e: {"summary": replace(e.summary, copied=(0.5,), places=((),))}, "summary.copied or places"),
        (lambda e: {"summary": with_copies(e, {0: (math.nan, {})}).summary}, "not finite"),
        (lambda e: {"summary": with_copies(e, {0: (0.5, {1: -0.5})}).summary}, "negative"),
        (lambda e: {"summary": replace(e.summary, unsupported=("word",))}, "summary.unsupported"),
        (lambda e: {"summary": replace(e.summary, unsupported=("", "", "", "colour"))}, "summary.unsupported"),
        (lambda e: {"document": replace(e.document, space_after=())}, "document.space_after"),
        (lambda e: {"document": replace(e.document, sections=(Section("far", 0, 18),))}, "sections"),
        (lambda e: {"document": replace(e.document, sentences=())}, "ranking"),
        (lambda e: {"truncated": 18}, "truncated"),
    ],
)
def test_inconsistent_explanations_are_refused(explanation, change, message):
    assert len(explanation.document.words) == 17 and explanation.ranking
    with pytest.raises(ValueError, match=message):
        render(replace(explanation, **change(explanation)))
