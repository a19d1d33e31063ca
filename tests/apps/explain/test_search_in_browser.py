"""Tests of the page's search box in a headless Chromium."""

import pytest

from tests.helpers.reports import lit, words_of
from tests.helpers.samples import explain_text

TEXT = f"Pooling keeps the best. {'Filler stands here. ' * 400}POOLING\nkeeps the rest, pooling is. İstanbul ends."
LAST = 4 + 3 * 400


@pytest.fixture(scope="module")
def explanation():
    return explain_text(TEXT, "pooling keeps the rest")


def matches(page, kind="match"):
    return page.locator(f"#document .{kind}").evaluate_all("(words) => words.map((word) => word.index)")


def said(page):
    return page.locator("#matches").inner_text()


def test_search_counts_marks_and_scrolls_to_matches(explanation, open_report):
    page = open_report(explanation, reduced_motion="reduce")
    box = page.get_by_role("searchbox", name="Search in the document")
    assert page.get_by_role("button", name="Match after").count() == 0
    box.fill("pooling  KEEPS the")
    assert matches(page) == [0, 1, 2, LAST, LAST + 1, LAST + 2] and matches(page, "current") == [0, 1, 2]
    assert said(page) == "1 of 2 matches"
    styles = words_of(page, "document").evaluate_all("(ws) => ws.map((w) => getComputedStyle(w).outlineStyle)")
    assert styles[0] == "solid" and styles[LAST] == "dotted" and styles[4] == "none"
    page.get_by_role("button", name="Match after").click()
    assert matches(page, "current") == [LAST, LAST + 1, LAST + 2] and said(page) == "2 of 2 matches"
    page.wait_for_timeout(200)  # blocks get their heights when they become visible
    top = words_of(page, "document").nth(LAST).bounding_box()["y"]
    toolbar = page.locator("#toolbar").bounding_box()
    assert toolbar["y"] + toolbar["height"] < top < 900
    page.get_by_role("button", name="Match after").click()  # from the last to the first
    assert said(page) == "1 of 2 matches"
    page.get_by_role("button", name="Match before").click()
    assert said(page) == "2 of 2 matches"


def test_search_works_by_keyboard(explanation, open_report):
    page = open_report(explanation, reduced_motion="reduce")
    words_of(page, "summary").nth(1).click()
    light = lit(page, "document")
    box = page.get_by_role("searchbox")
    box.focus()
    page.keyboard.type("pooling")
    assert said(page) == "1 of 3 matches"
    page.keyboard.press("Enter")
    assert said(page) == "2 of 3 matches" and matches(page, "current") == [LAST]
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    assert said(page) == "3 of 3 matches"
    page.keyboard.press("Escape")
    assert box.input_value() == said(page) == "" and matches(page) == [] and lit(page, "document") == light != set()
    page.keyboard.press("Escape")  # in an empty box, Escape goes to the page
    page.mouse.move(700, 5)
    assert lit(page, "document") & light != light


def test_search_marks_stay_for_another_stage_and_go_for_another_document(explanation, open_report):
    other = explain_text("Nothing pools here.", "nothing")
    page = open_report(explanation, other)
    page.get_by_role("searchbox").fill("rest, pool")
    assert matches(page) == [LAST + 3, LAST + 4] and said(page) == "1 of 1 match"
    page.get_by_role("radio", name="used by the summary").check()
    assert matches(page) == matches(page, "current") == [LAST + 3, LAST + 4]
    page.get_by_role("button", name="Next").click()
    assert matches(page) == [] and said(page) == "no match"
    page.get_by_role("searchbox").fill("pool")
    assert matches(page) == [1] and page.get_by_role("button", name="Match after").is_visible()
    page.emulate_media(media="print")
    assert not page.get_by_role("searchbox").is_visible()


def test_search_finds_letters_whose_lower_case_is_longer(explanation, open_report):
    page = open_report(explanation)
    page.get_by_role("searchbox").fill("ends")
    assert matches(page) == [len(explanation.document.words) - 1]
    page.get_by_role("searchbox").fill("İSTANBUL")
    assert matches(page) == [len(explanation.document.words) - 2]
    page.get_by_role("searchbox").fill("   ")
    assert matches(page) == [] and said(page) == ""
