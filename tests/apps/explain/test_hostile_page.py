"""Tests of a hostile document in a browser: it is shown as text, and nothing is run or fetched."""

import socket

import pytest

from tests.helpers.pages import HOSTILE, hostile_explanation


def test_markup_in_a_document_is_shown_as_text_and_runs_nothing(open_report):
    page = open_report(hostile_explanation())
    for i in range(len(HOSTILE.split(" "))):
        page.locator("#summary .word").nth(i).hover()
        page.locator("#document .word").nth(i).click()
    assert page.evaluate("window.bad") is None
    assert page.requests == [page.url]
    shown = page.locator("#document .word").evaluate_all("(words) => words.map((word) => word.textContent)")
    assert shown == HOSTILE.split(" ")
    assert page.title() == f"{HOSTILE} · summary with its sources".replace("\ud800", "\ufffd").replace(
        "\x00", "\ufffd"
    )
    counted = "['script', 'img', 'svg', 'iframe', 'b'].map((tag) => document.querySelectorAll(tag).length)"
    assert page.evaluate(counted)[:2] == [2, 0] and page.evaluate(counted)[3] == 0
    assert page.evaluate("document.querySelectorAll('[onload], [onerror], [onclick]').length") == 0


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.innerHTML = '<img src=x onerror=window.bad=1>'",
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.bad = 1'}))",
        "setTimeout('window.bad = 1', 0)",
        "document.body.setAttribute('onclick', 'window.bad = 1'); document.body.click()",
        "document.body.append(Object.assign(document.createElement('img'), {src: 'http://HOST/x'}))",
        "fetch('http://HOST/x').then(() => { window.bad = 1; }, () => {})",
        "navigator.sendBeacon('http://HOST/x', 'text')",
    ],
)
def test_content_security_policy_blocks_injected_code_and_requests(open_report, attempt):
    page = open_report(hostile_explanation())
    with socket.create_server(("127.0.0.1", 0)) as server:
        attempt = attempt.replace("HOST", f"127.0.0.1:{server.getsockname()[1]}")
        page.evaluate(f"() => {{ try {{ {attempt} }} catch (error) {{ window.refused = String(error); }} }}")
        server.settimeout(0.3)
        with pytest.raises(TimeoutError):
            server.accept()
    assert page.evaluate("window.bad") is None
    assert page.problems or page.evaluate("window.refused")  # the browser reported why it refused
    page.problems.clear()
