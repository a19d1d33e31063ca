"""A hostile document in a browser: shown as text, nothing run, nothing fetched."""

import socket

import pytest

from tests.helpers.pages import HOSTILE, hostile_explanation


def test_a_document_of_markup_runs_nothing(open_report):
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
def test_the_policy_stops_what_escaping_would_let_through(open_report, attempt):
    page = open_report(hostile_explanation())
    with socket.create_server(("127.0.0.1", 0)) as server:
        attempt = attempt.replace("HOST", f"127.0.0.1:{server.getsockname()[1]}")
        page.evaluate(f"() => {{ try {{ {attempt} }} catch (error) {{ window.refused = String(error); }} }}")
        server.settimeout(0.3)
        with pytest.raises(TimeoutError):
            server.accept()
    assert page.evaluate("window.bad") is None
    assert page.problems or page.evaluate("window.refused")  # the browser said no, and why
    page.problems.clear()
