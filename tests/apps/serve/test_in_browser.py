"""Tests of the form and the report in a headless Chromium, with the server's security headers."""

import re
import time

from tests.helpers.servers import GOOD


def test_submitting_the_form_shows_the_report_with_a_link_back(serve, new_page):
    page = new_page()
    page.goto(f"http://localhost:{serve().port}/")
    page.get_by_label("Paste the text").fill(GOOD)
    page.get_by_role("button", name="Summarise").click()
    assert page.locator("#document .word").all_text_contents() == GOOD.split()
    page.locator("#summary .word").first.hover()
    assert page.locator("#document .lit").count() > 0
    page.get_by_role("radio", name="used by the summary").check()
    page.get_by_role("link", name="another document").click()
    assert page.get_by_role("button", name="Summarise").is_enabled()


def test_file_upload_works_and_refused_text_stays_in_the_form(serve, engine, new_page):
    page = new_page()
    page.goto(f"http://127.0.0.1:{serve(words=10).port}/")
    file = {"name": "a.jsonl", "mimeType": "application/json", "buffer": b'{"text": "one"}\n{"text": "two"}\n'}
    page.get_by_label("or choose a file").set_input_files(file)
    page.get_by_role("button", name="Summarise").click()
    assert page.get_by_role("combobox", name="Document").locator("option").count() == 2
    page.go_back()
    page.get_by_label("Paste the text").fill("word " * 11)
    page.get_by_label("or choose a file").set_input_files([])
    page.get_by_role("button", name="Summarise").click()
    assert "The document has 11 words, the limit is 10" in page.locator(".notice").inner_text()
    page.problems.clear()  # Chromium reports the status 413 as an error of the console
    assert page.get_by_role("heading").inner_text() == "Summarise a document"
    assert page.get_by_label("Paste the text").input_value() == "word " * 11  # so that it can be shortened
    page.get_by_label("Paste the text").fill("\nfour words </textarea>")
    page.get_by_label("Beam").evaluate("(field) => { field.type = 'text'; field.value = '99'; }")
    page.get_by_role("button", name="Summarise").click()
    assert "The beam size must be an integer from 1 to 16." in page.locator(".notice").inner_text()
    page.problems.clear()
    assert page.get_by_label("Paste the text").input_value() == "\nfour words </textarea>"
    page.get_by_label("Beam").fill("3")
    page.get_by_label("Maximum length").fill("50")
    page.get_by_role("button", name="Summarise").click()
    assert page.locator("#document .word").all_text_contents() == ["four", "words", "</textarea>"]
    assert engine.generation == {"beam": 3, "max_len_b": 50}


#: Records in the page what it shows while it waits; Playwright itself blocks until the answer has arrived.
WATCH = """() => {
    const state = document.getElementById("state"), submit = document.getElementById("submit"), seen = [];
    const note = () => {
        seen.push([state.textContent, submit.disabled]);
        sessionStorage.seen = JSON.stringify(seen);
    };
    new MutationObserver(note).observe(state, {childList: true, characterData: true, subtree: true});
}"""


def test_form_counts_seconds_while_the_answer_is_awaited(serve, engine, new_page):
    page = new_page()
    page.goto(f"http://127.0.0.1:{serve().port}/")
    page.get_by_label("Paste the text").fill("wait for it")
    page.evaluate(WATCH)
    page.get_by_role("button", name="Summarise").click(no_wait_after=True)
    engine.wait_for("start")
    time.sleep(3)  # it counts seconds
    engine.release.set()
    page.locator("#document .word").first.wait_for()
    seen = page.evaluate("JSON.parse(sessionStorage.seen)")
    counting = re.compile(r"Reading and summarising: [1-9]\d* s")
    assert any(counting.fullmatch(text) and disabled for text, disabled in seen), seen


def test_cancel_stops_the_engine_and_keeps_the_text(serve, engine, new_page):
    page = new_page()
    page.goto(f"http://127.0.0.1:{serve().port}/")
    page.get_by_label("Paste the text").fill("wait for it")
    # Playwright waits for a navigation that a click started, so the page clicks both buttons itself.
    page.evaluate("""() => {
        setTimeout(() => document.getElementById("submit").click(), 0);
        setTimeout(() => document.getElementById("cancel").click(), 3000);
    }""")
    engine.wait_for("stopped")
    assert page.get_by_label("Paste the text").input_value() == "wait for it"
    assert page.locator("#state").inner_text() == "Cancelled."
    assert page.get_by_role("button", name="Summarise").is_enabled() and page.locator("#cancel").is_hidden()


def test_edit_link_returns_to_the_form_with_the_document(serve, new_page):
    page = new_page()
    page.goto(f"http://127.0.0.1:{serve().port}/")
    page.get_by_label("Paste the text").fill(GOOD)
    page.get_by_role("button", name="Summarise").click()
    page.get_by_role("link", name="edit this document").click()
    box = page.get_by_label("Paste the text")
    assert box.input_value() == GOOD
    box.fill(f"New. {GOOD}")
    page.get_by_role("button", name="Summarise").click()
    assert page.locator("#document .word").all_text_contents() == ["New.", *GOOD.split()]
    page.get_by_role("link", name="another document").click()
    assert page.get_by_label("Paste the text").input_value() == ""
