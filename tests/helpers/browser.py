"""Fixtures that open pages in the system's headless Chromium, driven by playwright."""

import os

import pytest

from pyramidion_fairseq.apps.explain.page import render_many
from scripts.screenshot import find_chromium
from tests.helpers import needs


@pytest.fixture(scope="module")
def chromium():
    """Start Playwright's browser, or skip the test if there is none."""
    try:
        from playwright import sync_api as api
    except ImportError:
        needs.missing("browser", "needs the Python package playwright: pip install playwright")
    try:
        path = find_chromium()
    except SystemExit as error:
        needs.missing("browser", f"needs a browser, and {str(error).partition(': ')[2]}")
    # Chromium's sandbox refuses to run as root, which is usual in containers.
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium):
    """Return a function that makes pages; check at the end that none reported an error, warning or refused request."""
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
    """Return a function that writes a report of explanations and opens it as a file.

    Its argument ``render`` makes the page; options are those of the browser's context.
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
