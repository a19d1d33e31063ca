"""Measure how long the report page takes in headless Chromium to open, switch stages and highlight sources, by length.

Times are median milliseconds until the next frame is drawn. The document's weights are synthetic. This needs Chromium
and playwright, like the tests of the page: ``python benchmarks/page.py --output benchmarks/results/page_cpu``.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import measure
from playwright.sync_api import Page, sync_playwright

from pyramidion_fairseq.apps.explain.page import render

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts.screenshot import find_chromium
from tests.helpers.samples import explain_text

#: Milliseconds from an action on each element to the end of the frame that shows its effect.
TIMED = """async ([selector, event]) => {
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    const times = [];
    for (const element of document.querySelectorAll(selector)) {
        await frame();
        const start = performance.now();
        element.dispatchEvent(new PointerEvent(event, { bubbles: true }));
        await frame();
        times.push(performance.now() - start);
    }
    return times;
}"""


def measure_page(page: Page, words: int, rounds: int) -> dict[str, float]:
    """Return one row of the table."""
    text = " ".join(f"word{i % 977}{'.' * (i % 23 == 22)}" for i in range(words))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(render(explain_text(text, "word1 word2 word3 word4 word5")), encoding="utf-8")
        opening, switching, lighting = [], [], []
        for _ in range(rounds):
            start = time.perf_counter()
            page.goto(file.as_uri())
            opening.append(1000 * (time.perf_counter() - start))
            switching += page.evaluate(TIMED, ["#stages input", "click"])
            lighting += page.evaluate(TIMED, ["#summary .word", "pointerover"])
        megabytes = file.stat().st_size / 2**20
    return {
        "words": words,
        "file, MB": round(megabytes, 2),
        "open, ms": round(statistics.median(opening)),
        "switch stage, ms": round(statistics.median(switching)),
        "slowest switch, ms": round(max(switching)),
        "light sources, ms": round(statistics.median(lighting)),
    }


def main() -> None:
    """Measure, print the table and write it."""
    parser = measure.parser(__doc__, rounds=5, precisions=(), devices=("cpu",), sizes=())
    parser.add_argument("--words", type=int, nargs="+", default=[1_000, 8_000, 20_000, 50_000], help="of documents")
    args = measure.parse(parser)
    if min(args.words) < 1:
        parser.error("--words must be at least 1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), chromium_sandbox=os.geteuid() != 0)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        rows = [measure_page(page, words, args.rounds) for words in args.words]
        version = browser.version
        browser.close()
    table = measure.table(list(rows[0]), [list(row.values()) for row in rows])
    measure.report("page", "cpu", {"chromium": version, "rows": rows}, [f"Chromium {version}\n\n{table}"], args.output)


if __name__ == "__main__":
    main()
