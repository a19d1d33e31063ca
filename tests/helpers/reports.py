"""Compare what a browser shows of a report with the numbers that the command wrote to a file."""

import json
import math
import re

from pyramidion_fairseq.apps.explain import Explanation

LEVELS = 9


def words_of(page, region):
    return page.locator(f"#{region} .word")


def levels(page, region="document", prefix="s"):
    """Return the level of every word of a region, or None if it has none."""
    found = words_of(page, region).evaluate_all("(words) => words.map((word) => word.className)")
    return [next((int(n) for n in re.findall(rf"\b{prefix}(\d)\b", name)), None) for name in found]


def top(weights):
    """Return the end of the scale; the page holds four digits of each weight."""
    return float(f"{max(weights):.4g}")


def expected_levels(weights, end):
    """Return the weights on a scale from 0 to ``end`` in ten shades, with halves rounded up."""
    return [min(LEVELS, math.floor(LEVELS * float(f"{weight:.4g}") / end + 0.5)) for weight in weights]


def lit(page, region):
    return {index for index, shade in enumerate(levels(page, region, "lit")) if shade}


def fed(explanation, word):
    """Return the words of the summary that have a word of the document as a source."""
    return {i for i, row in enumerate(explanation.summary.sources) if word in [source for source, _ in row]}


def read(path):
    """Read what ``pyramidion-explain --json`` wrote."""
    return Explanation.from_dict(json.loads(path.read_text(encoding="utf-8")))


def check_report(page, explanation):
    """Check stages, words of the summary and sources under the pointer, and moving by keyboard."""
    read_words = len(explanation.document.words) - explanation.truncated
    assert words_of(page, "document").all_text_contents()[:read_words] == list(explanation.document.words[:read_words])
    assert words_of(page, "summary").all_text_contents() == list(explanation.summary.words)
    for stage in explanation.stages:
        page.get_by_role("radio", name=stage.name).check()
        assert levels(page)[:read_words] == expected_levels(stage.weights, top(stage.weights))[:read_words]
    shades = levels(page)
    sources = [{word for word, _ in row} for row in explanation.summary.sources]
    for number, row in list(enumerate(explanation.summary.sources))[:12]:
        words_of(page, "summary").nth(number).hover()
        assert lit(page, "document") == sources[number]
        strongest = levels(page, "document", "lit")[row[0][0]]
        assert strongest == LEVELS
    page.mouse.move(700, 5)
    assert lit(page, "document") == set() and levels(page) == shades
    source = explanation.summary.sources[0][0][0]
    words_of(page, "document").nth(source).hover()
    assert lit(page, "summary") == fed(explanation, source) != set()
    page.mouse.move(700, 5)
    page.locator("#summary [tabindex='0']").focus()
    for number in range(min(4, len(sources))):
        assert page.evaluate("document.activeElement.index") == number and lit(page, "document") == sources[number]
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    assert lit(page, "document") == set()
