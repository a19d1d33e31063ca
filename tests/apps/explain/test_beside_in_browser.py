"""Tests of the page with two summaries of one document, in a headless Chromium."""

from dataclasses import replace

import pytest

from pyramidion_fairseq.apps.explain.page import render_beside
from tests.helpers.reports import expected_levels, levels, top, words_of
from tests.helpers.samples import explain_text, with_copies

TEXT = " ".join(f"Sentence {number} says that pooling keeps representation number {number}." for number in range(40))


@pytest.fixture(scope="module")
def two():
    first = with_copies(explain_text(TEXT, "pooling keeps the best"), {1: (0.9, {2: 0.9})})
    other = explain_text(TEXT, "it keeps 7 parts", seed=1)
    unsupported = ("word", "", "number", "word")
    return first, replace(other, summary=replace(other.summary, unsupported=unsupported))


def test_cards_show_both_summaries_and_select_the_model_shown(two, open_report):
    page = open_report(*two, render=render_beside)
    cards = page.locator("#cards .card")
    assert cards.locator(".text").all_text_contents() == ["pooling keeps the best ", "it keeps 7 parts "]
    names = [" → ".join(str(length.tokens) for length in explanation.lengths) for explanation in two]
    assert cards.locator("button").all_text_contents() == [f"deeppyramidion: {name} vectors" for name in names]
    shown = "(cards) => cards.map((card) => card.classList.contains('shown'))"
    for number, explanation in reversed(list(enumerate(two))):
        cards.nth(number).get_by_role("button").click()
        assert words_of(page, "summary").all_text_contents() == list(explanation.summary.words)
        stage = explanation.stages[0].weights
        assert levels(page) == expected_levels(stage, top(stage))
        assert cards.evaluate_all(shown) == [number == 0, number == 1]
        assert page.get_by_label("Model").input_value() == str(number)


def test_cards_show_numbers_and_missing_words_of_each_summary(two, open_report):
    page = open_report(*two, render=render_beside)
    first, other = (explanation.stages[-2].weights for explanation in two)
    both = sum(map(min, first, other)) / sum(first)
    assert 0.1 < both < 0.9
    assert page.locator("#cards .facts").all_text_contents() == [
        "4 words · 1 copied",
        f"4 words · 3 not in the document · keeps {100 * both:.0f} % of what the first keeps",
    ]
    lacking = page.locator("#cards .unsupported").all_text_contents()
    assert lacking == ["it", "7", "parts"]


def test_page_of_one_model_has_no_cards(two, open_report):
    page = open_report(two[0])
    assert not page.locator("#beside").is_visible()
