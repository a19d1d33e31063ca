"""Tests of saving and copying from the page, in a headless Chromium."""

import json
from dataclasses import replace

import pytest

from pyramidion_fairseq.apps.explain import Explanation
from pyramidion_fairseq.apps.explain.page import render
from tests.helpers.pages import data_of, hostile_explanation
from tests.helpers.reports import words_of
from tests.helpers.samples import explain_text


@pytest.fixture(scope="module")
def explanation():
    explained = explain_text("Pooling keeps the best. The rest goes.", "pooling keeps tokens .", title="A: *title*/2")
    spaces = (True, True, False, False)
    return replace(explained, summary=replace(explained.summary, space_after=spaces))


def saved(page, button):
    """Return (name, content) of the file that a button saves."""
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    path = download.value.path()
    return download.value.suggested_filename, path.read_text(encoding="utf-8")


def test_save_buttons_save_the_summary_and_the_numbers(explanation, open_report):
    page = open_report(explanation)
    assert saved(page, "Save as text") == ("A-title-2.txt", "pooling keeps tokens.\n")
    assert page.locator("#saved").inner_text() == "Saved as A-title-2.txt."
    name, content = saved(page, "Save numbers")
    (data,) = data_of(render(explanation))
    assert data.pop("unlisted") == 0 and name == "A-title-2.json"
    assert json.loads(content) == data
    assert Explanation.from_dict(json.loads(content)).document == explanation.document
    assert [url.split(":")[0] for url in page.requests] == ["file"] + ["blob"] * (len(page.requests) - 1)


def test_saved_page_works_like_the_original(explanation, open_report, new_page, tmp_path):
    page = open_report(explanation, replace(explanation, title="Second"))
    page.get_by_role("button", name="Next").click()
    words_of(page, "summary").nth(1).click()
    name, content = saved(page, "Save this page")
    assert name == "Second.html"
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    again = new_page()
    again.goto(path.as_uri())
    assert again.get_by_role("heading", level=1).inner_text() == explanation.title
    assert words_of(again, "document").all_text_contents() == list(explanation.document.words)
    assert data_of(content) == data_of((tmp_path / "report.html").read_text(encoding="utf-8"))
    words_of(again, "summary").nth(0).hover()
    assert again.locator("#document .lit").count() > 0  # its script ran, so the hash in the policy is still valid


def test_saved_page_of_a_server_has_no_link_to_the_server(explanation, new_page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render(explanation, home="/"), encoding="utf-8")
    page = new_page()
    page.goto(path.as_uri())
    assert page.get_by_role("link", name="another document").is_visible()
    _, content = saved(page, "Save this page")
    assert "another document</a>" not in content and data_of(content) == data_of(path.read_text(encoding="utf-8"))


def test_hostile_documents_are_saved_unchanged(open_report):
    page = open_report(hostile_explanation())
    _, content = saved(page, "Save this page")
    assert data_of(content) == data_of(render(hostile_explanation()))
    name, text = saved(page, "Save as text")
    assert name.startswith("script-script-window-bad-1") and "/" not in name
    assert text.startswith("</script><script>window.bad=1</script> <img src=x")
    assert page.evaluate("window.bad") is None


def test_copy_button_copies_the_summary(explanation, open_report):
    page = open_report(explanation, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "pooling keeps tokens."


def test_copy_button_selects_the_summary_without_a_clipboard(explanation, open_report):
    page = open_report(explanation)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_text("Selected: copy it with Ctrl+C.").wait_for()
    assert page.evaluate("getSelection().toString()") == "pooling keeps tokens."
