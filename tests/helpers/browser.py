"""A headless Chromium for tests of pages: the system's, driven by playwright, which brings none of its own."""

import os

import pytest

from pyramidion_fairseq.apps.explain.page import render_many
from scripts.screenshot import find_chromium
from tests.helpers import needs


@pytest.fixture(scope="module")
def chromium():
    """Playwright's Browser; skips where there is none."""
    try:
        from playwright import sync_api as api
    except ImportError:
        needs.missing("browser", "needs the Python package playwright: pip install playwright")
    try:
        path = find_chromium()
    except SystemExit as error:
        needs.missing("browser", f"needs a browser, and {str(error).partition(': ')[2]}")
    # Chromium's sandbox refuses to run as root, as containers do.
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium):
    """Factory of pages; at the end no error, warning or refused request may have been reported by any of them."""
    contexts, problems = [], []

    def make(**options):
        context = chromium.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.problems = problems
        return page

    yield make
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def open_report(new_page, tmp_path):
    """Factory: open_report(*explanations, **context options) is the page of a report, opened as a file.

    ``render``: what makes the page.
    """

    def open_(*explanations, render=render_many, **options):
        path = tmp_path / "report.html"
        path.write_text(render(explanations), encoding="utf-8")
        page = new_page(**options)
        page.requests = []
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(path.as_uri())
        return page

    return open_
