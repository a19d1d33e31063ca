"""Reports in a browser."""

import pytest

from pyramidion_fairseq.explain.page import render


@pytest.fixture
def open_report(new_page, tmp_path):
    """Factory: open_report(explanations, **context options) is the page of a report, opened as a file."""

    def open_(explanations, **options):
        path = tmp_path / "report.html"
        path.write_text(render(explanations), encoding="utf-8")
        page = new_page(**options)
        page.requests = []
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(path.as_uri())
        return page

    return open_
