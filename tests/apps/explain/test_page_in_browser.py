"""Tests of the page in a headless Chromium: it shows the explanation's numbers, and its controls work."""

import math
import re
from dataclasses import replace

import pytest

from pyramidion_fairseq.apps.explain import Section
from tests.helpers.reports import LEVELS, expected_levels, fed, levels, lit, top, words_of
from tests.helpers.samples import explain_text, with_copies

TEXT = " ".join(
    f"Sentence {number} says that pooling keeps representation number {number} and that the decoder reads it."
    for number in range(60)
)
SUMMARY = "pooling keeps the representation that the decoder reads"
#: Script that returns the computed style of every word of a region, colours as [red, green, blue, alpha].
STYLES = """(words) => words.map((word) => {
    const style = getComputedStyle(word);
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const [r, g, b, a = 1] = numbers(style.backgroundColor);
    return {back: [r, g, b, a], ink: numbers(style.color), rule: parseFloat(style.borderBottomWidth)};
})"""


@pytest.fixture(scope="module")
def explanation():
    return explain_text(TEXT, SUMMARY, truncated=30)


def test_shades_match_the_weights_of_every_stage(explanation, open_report):
    page = open_report(explanation)
    assert words_of(page, "document").all_text_contents() == list(explanation.document.words)
    for stage in explanation.stages:
        page.get_by_role("radio", name=stage.name).check()
        shown = levels(page)
        assert shown == expected_levels(stage.weights, top(stage.weights)) and len(set(shown)) > 4
        page.get_by_label("same scale for all").check()
        assert levels(page) == expected_levels(stage.weights, 1.0)
        page.get_by_label("same scale for all").uncheck()
        styles = words_of(page, "document").evaluate_all(STYLES)
        seen = {level: (style["back"][3], style["rule"]) for level, style in zip(shown, styles)}
        assert [seen[level] for level in sorted(seen)] == sorted(seen.values())  # more weight: darker, thicker line
        assert len({alpha for alpha, _ in seen.values()}) == len(seen) and max(seen.values())[1] == 4


def test_scale_shows_the_range_of_weights(explanation, open_report):
    page = open_report(explanation)
    end = max(explanation.stages[1].weights)
    page.get_by_role("radio", name="after layer 3").check()
    expected = ["0", *(f"{end * third / 3:.2f}" for third in (1, 2, 3))]
    assert page.locator("#scale li").all_text_contents()[::3] == expected and 0.1 < end < 0.99
    page.get_by_label("same scale for all").check()
    assert page.locator("#scale li").all_text_contents()[::3] == ["0", "0.33", "0.67", "1"]


def test_arrow_keys_change_the_stage(explanation, open_report):
    page = open_report(explanation)
    page.get_by_role("radio", name="after layer 2").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("radio", name="after layer 3").is_checked()
    weights = explanation.stages[1].weights
    assert levels(page) == expected_levels(weights, top(weights))


def test_hovering_a_summary_word_highlights_its_sources(explanation, open_report):
    page = open_report(explanation)
    shades = levels(page)
    for i, row in enumerate(explanation.summary.sources):
        words_of(page, "summary").nth(i).hover()
        assert lit(page, "document") == {word for word, _ in row} and lit(page, "summary") == set()
        found = levels(page, "document", "lit")
        most = row[0][1]
        assert [found[word] for word, _ in row] == [max(1, math.floor(LEVELS * w / most + 0.5)) for _, w in row]
        assert page.locator("#map .tick").count() == len(row)
        first = page.locator("#sources button").first.inner_text()
        assert first.startswith(explanation.document.words[row[0][0]]) and first.endswith("%")
    page.mouse.move(700, 5)
    assert lit(page, "document") == set() and levels(page) == shades


def test_hovering_a_document_word_highlights_the_summary_words_it_fed(explanation, open_report):
    page = open_report(explanation)
    source = explanation.summary.sources[2][0][0]
    words_of(page, "document").nth(source).hover()
    assert lit(page, "summary") == fed(explanation, source) != set()
    shown = page.locator("#sources").inner_text()
    assert (
        all(stage.name in shown for stage in explanation.stages) and f"“{explanation.document.words[source]}”" in shown
    )
    never = next(i for i in range(len(explanation.document.words)) if not fed(explanation, i))
    words_of(page, "document").nth(never).hover()
    assert lit(page, "summary") == set()
    assert "no summary word" in page.locator("#sources").inner_text()


@pytest.fixture(scope="module")
def copying(explanation):
    """Return an explanation with a copied word (probability 0.97), one at 0.5 and one just below at 0.49."""
    copies = {3: (0.97, {6: 0.9, 24: 0.05}), 6: (0.5, {14: 0.5}), 7: (0.49, {16: 0.49})}
    return with_copies(explanation, copies)


def as_percent(share):
    """Format a share as the page does."""
    return f"{100 * share:.{1 if share < 0.0995 else 0}f} %"


def marked(page, region, kind):
    return page.locator(f"#{region} .{kind}").evaluate_all("(words) => words.map((word) => word.index)")


def test_copied_words_are_underlined(copying, open_report):
    page = open_report(copying)
    assert marked(page, "summary", "copied") == [3, 6] and marked(page, "document", "place") == []
    lines = words_of(page, "summary").evaluate_all("(ws) => ws.map((w) => getComputedStyle(w).textDecorationLine)")
    assert lines == ["underline" if number in (3, 6) else "none" for number in range(8)]
    legend = page.locator("#copied-legend")
    assert legend.inner_text().startswith("Underlined: copied from the document (2 of 8 words)")
    assert page.locator("#summary").get_attribute("aria-describedby") == "copied-legend summary-help"
    assert "copies words" in page.locator("#facts").inner_text()


def test_hovering_a_copied_word_highlights_its_places(copying, open_report):
    page = open_report(copying)
    for number, places in ((3, [6, 24]), (6, [14]), (7, []), (0, [])):
        words_of(page, "summary").nth(number).hover()
        assert marked(page, "document", "place") == places and page.locator("#map .place").count() == len(places)
        assert lit(page, "document") == {word for word, _ in copying.summary.sources[number]}
        share = as_percent(copying.summary.copied[number])
        shown = page.locator("#sources").inner_text().replace("\n", " ")
        chips = page.locator("#sources button.place").all_text_contents()
        if places:
            assert f"was copied from the document (probability {share}), from:" in shown
            row = copying.summary.places[number]
            assert chips == [f"{copying.document.words[i]} {as_percent(weight)}" for i, weight in row]
            assert "of its attention" in shown
        else:
            assert f"was written, not copied (probability of a copy {share})" in shown and not chips
    page.mouse.move(700, 5)
    assert marked(page, "document", "place") == [] and page.locator("#map .place").count() == 0


def test_copied_places_look_different_from_attended_words(copying, open_report):
    page = open_report(copying)
    words_of(page, "summary").nth(3).hover()
    look = "(w) => { const s = getComputedStyle(w); return [s.textDecorationLine, s.boxShadow.split('px,').length]; }"
    places = [words_of(page, "document").nth(number).evaluate(look) for number in (6, 24)]
    assert places == [["underline", 3]] * 2  # three shadows: a frame, a gap, a frame
    attended = next(word for word, _ in copying.summary.sources[3] if word not in (6, 24))
    assert words_of(page, "document").nth(attended).evaluate(look) == ["none", 1]


def test_hovering_a_place_highlights_the_words_copied_from_it(copying, open_report):
    page = open_report(copying)
    words_of(page, "document").nth(14).hover()
    assert marked(page, "summary", "place") == [6] and lit(page, "summary") == fed(copying, 14)
    shown = page.locator("#sources").inner_text().replace("\n", " ")
    assert "copied into 1 summary word:" in shown and "0." in shown
    words_of(page, "document").nth(16).hover()  # the place of a word that counts as written
    assert marked(page, "summary", "place") == [] and "copied into" not in page.locator("#sources").inner_text()


def test_copied_words_can_be_read_by_keyboard(copying, open_report):
    page = open_report(copying, reduced_motion="reduce")
    page.locator("#summary [tabindex='0']").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert marked(page, "document", "place") == [6, 24]
    page.wait_for_timeout(400)
    said = page.locator("#live").inner_text()
    assert said.startswith("representation was copied from the document (probability 97 %), from:")
    assert f"{copying.document.words[6]} 90 %" in said and "It drew" in said
    page.keyboard.press("Enter")
    page.get_by_role("radio", name="after layer 3").check()
    assert marked(page, "document", "place") == [6, 24]  # another shading keeps them
    page.keyboard.press("Escape")
    page.locator("#summary [tabindex='0']").evaluate("(word) => word.blur()")
    assert marked(page, "document", "place") == []


def test_clicking_a_copied_word_scrolls_to_its_place(explanation, open_report):
    far = len(explanation.document.words) - 40
    page = open_report(with_copies(explanation, {3: (0.9, {far: 0.9})}), reduced_motion="reduce")
    words_of(page, "summary").nth(3).click()
    box = words_of(page, "document").nth(far).bounding_box()
    assert page.locator("#toolbar").bounding_box()["y"] < box["y"] < 900


def test_page_of_a_plain_model_does_not_mention_copies(explanation, copying, open_report):
    page = open_report(explanation, copying)
    assert page.locator("#copied-legend").is_hidden() and marked(page, "summary", "copied") == []
    words_of(page, "summary").nth(3).hover()
    assert "cop" not in page.locator("#sources").inner_text() + page.locator("#facts").inner_text()
    page.get_by_role("button", name="Next").click()
    assert page.locator("#copied-legend").is_visible()
    page.get_by_role("button", name="Previous").click()
    assert page.locator("#copied-legend").is_hidden()
    assert page.locator("#summary").get_attribute("aria-describedby") == "summary-help"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_copied_marks_have_enough_contrast_in_print_and_dark_mode(copying, open_report, scheme):
    page = open_report(copying, color_scheme=scheme)
    words_of(page, "summary").nth(3).hover()
    (style,) = page.locator("#document .place").evaluate_all(STYLES)[:1]
    paper = [int(n) for n in re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))]
    *back, alpha = style["back"]
    assert alpha > 0 and contrast(style["ink"], [alpha * b + (1 - alpha) * p for b, p in zip(back, paper)]) >= 4.5
    rule = "getComputedStyle(document.querySelector('#summary .copied')).textDecorationColor"
    line = [int(n) for n in re.findall(r"\d+", page.evaluate(rule))]
    assert contrast(line, paper) >= 3  # WCAG 2 for elements other than text
    page.emulate_media(media="print")
    assert page.locator("#copied-legend").is_visible() and not page.locator("#copied-legend .help").is_visible()
    print_line = "getComputedStyle(document.querySelector('#summary .copied')).textDecorationLine"
    assert page.evaluate(print_line) == "underline"


def lacking(explanation, *kinds):
    return replace(explanation, summary=replace(explanation.summary, unsupported=kinds))


def test_unsupported_words_have_a_wavy_line_and_a_legend(copying, open_report):
    page = open_report(lacking(copying, "", "number", "", "word", "capitalised", "", "", "number"))
    assert marked(page, "summary", "unsupported") == [1, 3, 4, 7] and marked(page, "summary", "copied") == [3, 6]
    styles = words_of(page, "summary").evaluate_all("(ws) => ws.map((w) => getComputedStyle(w).textDecorationStyle)")
    assert [number for number, style in enumerate(styles) if style == "wavy"] == [1, 3, 4, 7]
    legend = page.locator("#unsupported-legend").inner_text()
    assert legend == (
        "Wavy line: the document does not contain the word. 4 of 8 words; 2 with a digit: check them; "
        "1 capitalised: perhaps a name."
    )
    described = page.locator("#summary").get_attribute("aria-describedby")
    assert described == "copied-legend unsupported-legend summary-help"
    words_of(page, "summary").nth(1).hover()
    assert "“keeps” is not in the document. It was written" in page.locator("#sources").inner_text().replace("\n", " ")
    words_of(page, "summary").nth(3).hover()
    assert "is not in the document. It was copied from" in page.locator("#sources").inner_text().replace("\n", " ")
    words_of(page, "summary").nth(0).hover()
    assert "not in the document" not in page.locator("#sources").inner_text()


def test_unsupported_words_are_announced_by_keyboard(explanation, open_report):
    page = open_report(lacking(explanation, "word", *[""] * 7))
    page.locator("#summary [tabindex='0']").focus()
    page.wait_for_timeout(400)
    assert page.locator("#live").inner_text().startswith("pooling is not in the document. It drew ")


def test_legend_of_a_summary_without_unsupported_words(explanation, open_report):
    page = open_report(lacking(explanation, *[""] * 8), explanation)
    assert page.locator("#unsupported-legend").inner_text() == "The document contains every word of the summary."
    page.get_by_role("button", name="Next").click()  # an explanation of an older version, without this comparison
    assert page.locator("#unsupported-legend").is_hidden() and marked(page, "summary", "unsupported") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_wavy_lines_have_enough_contrast_in_print_and_dark_mode(explanation, open_report, scheme):
    page = open_report(lacking(explanation, "word", *[""] * 7), color_scheme=scheme)
    for media in ("screen", "print"):
        page.emulate_media(media=media)
        colours = [page.evaluate(f"getComputedStyle({of}") for of in (
            "document.querySelector('#summary .unsupported')).textDecorationColor",
            "document.querySelector('#summary')).backgroundColor",
        )]  # fmt: skip
        line, paper = ([int(n) for n in re.findall(r"\d+", colour)] for colour in colours)
        assert contrast(line, paper) >= 3 and page.locator("#unsupported-legend").is_visible()


def test_summary_words_can_be_read_by_keyboard(explanation, open_report):
    page = open_report(explanation)
    sources = [{word for word, _ in row} for row in explanation.summary.sources]
    focused = "document.activeElement.textContent"
    for _ in range(3):  # two skip links, then the summary
        page.keyboard.press("Tab")
    assert page.evaluate(focused) == SUMMARY.split()[0] and lit(page, "document") == sources[0]
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == SUMMARY.split()[2] and lit(page, "document") == sources[2]
    page.wait_for_timeout(400)  # announced after a delay
    assert page.locator("#live").inner_text().startswith("the drew ")
    named = page.locator("#live").inner_text()
    assert explanation.document.words[explanation.summary.sources[2][0][0]] in named
    page.keyboard.press("End")
    page.keyboard.press("Enter")  # keeps the highlight when the focus moves
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "BUTTON" and lit(page, "document") == sources[-1]
    assert page.get_by_role("option", selected=True).all_text_contents() == [SUMMARY.split()[-1]]
    page.keyboard.press("Escape")
    assert lit(page, "document") == set() and page.get_by_role("option", selected=True).count() == 0
    assert page.locator("#summary [tabindex='0']").count() == page.locator("#document [tabindex='0']").count() == 1


def test_document_words_can_be_read_by_keyboard(explanation, open_report):
    page = open_report(explanation)
    page.locator("#document [tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.index") == 1
    assert lit(page, "summary") == fed(explanation, 1)
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.index") == len(explanation.document.words) - 1
    assert "was not read" in page.locator("#sources").inner_text()


def test_clicking_a_word_keeps_its_sources_highlighted(explanation, open_report):
    page = open_report(explanation)
    word = words_of(page, "summary").nth(3)
    word.click()
    words_of(page, "summary").nth(1).hover()
    sources = {source for source, _ in explanation.summary.sources[3]}
    assert lit(page, "document") == sources
    page.get_by_role("radio", name="after layer 3").check()
    assert lit(page, "document") == sources and "kept lit" in page.locator("#sources").inner_text()
    word.click()  # releases it; the pointer is still there
    page.mouse.move(700, 5)
    word.evaluate("(word) => word.blur()")
    assert lit(page, "document") == set()
    words_of(page, "summary").nth(5).click()
    page.keyboard.press("Escape")
    assert lit(page, "document") == set()


def test_lengths_are_drawn_to_scale_with_their_numbers(explanation, open_report):
    page = open_report(explanation)
    texts = page.locator("#lengths text").all_text_contents()
    bars = page.locator("#lengths rect").evaluate_all("(bars) => bars.map((bar) => bar.getBBox().width)")
    tokens = [length.tokens for length in explanation.lengths]
    assert texts[::2] == [length.name for length in explanation.lengths]
    assert [text.split()[0][: len(f"{n:,}")] for text, n in zip(texts[1::2], tokens)] == [f"{n:,}" for n in tokens]
    assert [bar / bars[0] for bar in bars] == pytest.approx([n / tokens[0] for n in tokens], rel=1e-2)
    assert f"after layer 3 {tokens[2]}" in page.locator("#lengths").get_attribute("aria-label")


def test_clicking_the_ranking_scrolls_to_the_sentence(explanation, open_report):
    page = open_report(explanation, reduced_motion="reduce")
    assert page.locator("#ranking li").count() == 8
    page.locator("#more").click()
    shown = page.locator("#ranking .amount").all_text_contents()
    assert len(shown) == len(explanation.ranking)
    assert (
        shown[0] == f"{100 * explanation.ranking[0].weight:.{1 if explanation.ranking[0].weight < 0.0995 else 0}f} %"
    )
    for rank in (explanation.ranking[0], explanation.ranking[-1]):
        start, end = explanation.document.sentences[rank.sentence]
        page.locator("#ranking button").nth(explanation.ranking.index(rank)).click()
        assert page.evaluate("document.activeElement.index") == start
        box = words_of(page, "document").nth(start).bounding_box()
        assert page.locator("#toolbar").bounding_box()["y"] < box["y"] < 900
        found = page.locator("#document .found").evaluate_all("(words) => words.map((word) => word.index)")
        assert found == list(range(start, end))


def test_clicking_the_map_scrolls_to_the_place(explanation, open_report):
    page = open_report(explanation, reduced_motion="reduce")
    box = page.locator("#map").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 10)
    middle = words_of(page, "document").nth(len(explanation.document.words) // 2).bounding_box()
    assert 200 < middle["y"] < 800


def test_unread_words_are_marked(explanation, open_report):
    page = open_report(explanation)
    unread = page.locator("#document .unread .word").all_text_contents()
    assert unread == list(explanation.document.words[-30:])
    assert "The 30 words that follow it did not read" in page.locator("#document .cut").text_content()


def contrast(ink, back):
    def luminance(colour):
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), parts))

    light, dark = sorted((luminance(ink), luminance(back)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_on_every_shade(explanation, open_report, scheme):
    size = len(explanation.document.words)
    stage = replace(explanation.stages[0], weights=tuple(i / (size - 31) for i in range(size - 30)) + (0.0,) * 30)
    page = open_report(replace(explanation, stages=(stage,)), color_scheme=scheme)
    paper = [int(n) for n in re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))]
    assert (sum(paper) < 150) == (scheme == "dark")

    def worst():
        ratios = []
        for style in words_of(page, "document").evaluate_all(STYLES) + words_of(page, "summary").evaluate_all(STYLES):
            *back, alpha = style["back"]
            mixed = [alpha * b + (1 - alpha) * p for b, p in zip(back, paper)]
            ratios.append(contrast(style["ink"], mixed))
        return min(ratios)

    assert set(levels(page)) == set(range(LEVELS + 1)) and worst() >= 4.5  # WCAG 2, AA
    words_of(page, "summary").nth(2).hover()
    assert worst() >= 4.5


def test_print_shows_shades_as_lines_under_words(explanation, open_report):
    page = open_report(explanation)
    page.emulate_media(media="print")
    rules = [style["rule"] for style in words_of(page, "document").evaluate_all(STYLES)]
    shown = dict(zip(levels(page), rules))
    assert shown[0] == 0 and shown[9] > shown[5] > 0
    assert not page.locator("#map").is_visible() and not page.locator("#summary-help").is_visible()
    visible = [label for label in page.locator("#stages label").all() if label.is_visible()]
    assert [label.inner_text() for label in visible] == ["after layer 2"]
    assert page.pdf().count(b"/Type /Page\n") > 1


def test_print_on_narrow_paper_uses_block_layout(explanation, open_report):
    page = open_report(explanation, viewport={"width": 700, "height": 900})
    page.emulate_media(media="print")
    names = "['body', '.heading', '.masthead', 'main']"
    kinds = f"{names}.map((name) => getComputedStyle(document.querySelector(name)).display)"
    assert page.evaluate(kinds) == ["block"] * 4
    lefts = [page.locator(name).bounding_box()["x"] for name in ("#title", "#summary", "#document")]
    assert len(set(lefts)) == 1


@pytest.mark.parametrize("width", [320, 700, 1440])
def test_page_is_never_wider_than_the_window(open_report, width):
    page = open_report(explain_text(f"{'long' * 2000} word " * 3, "x" * 500), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    summary, text = page.locator("#summary").bounding_box(), page.locator("#document").bounding_box()
    assert (summary["y"] + summary["height"] < text["y"]) == (width < 992)  # stacked, or side by side
    title, funnel = page.locator("#title").bounding_box(), page.locator("#lengths").bounding_box()
    assert title["y"] < summary["y"] and (summary["y"] < funnel["y"] < text["y"]) == (width < 992)


def test_sources_are_visible_in_narrow_windows(explanation, open_report):
    page = open_report(explanation, viewport={"width": 400, "height": 700})
    assert not page.locator("#sources").is_visible()
    words_of(page, "summary").nth(2).click()
    box = page.locator("#sources").bounding_box()
    assert box["y"] + box["height"] == pytest.approx(700, abs=1) and page.locator("#sources button").first.is_visible()
    page.keyboard.press("Escape")
    page.mouse.move(5, 5)
    assert not page.locator("#sources").is_visible()


def test_note_of_the_model_is_a_caveat_or_a_notice(explanation, open_report):
    page = open_report(explanation, replace(explanation, model=replace(explanation.model, exact=False)))
    assert page.locator(".caveat").inner_text() == explanation.model.note == "The encoder mixes, too."
    page.get_by_role("button", name="Next").click()
    assert page.locator(".notice").inner_text() == explanation.model.note and page.locator(".caveat").count() == 0


def test_right_to_left_text_is_laid_out_from_the_right(open_report):
    page = open_report(explain_text("هذه وثيقة طويلة. يقرأ النموذج كلماتها.", "وثيقة طويلة جدا"))
    boxes = [words_of(page, "document").nth(i).bounding_box()["x"] for i in (0, 1)]
    assert boxes[0] > boxes[1]
    words_of(page, "summary").nth(0).focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.index") == 1


def test_sections_have_headings(explanation, open_report):
    sections = (Section("Methods", 0, 100), Section("<b>Results</b>", 100, 700))
    page = open_report(replace(explanation, document=replace(explanation.document, sections=sections)))
    assert page.get_by_role("heading", level=3).all_text_contents() == ["Methods", "<b>Results</b>"]
    assert page.locator("#document .word").all_text_contents() == list(explanation.document.words)


@pytest.mark.parametrize("text, summary", [("word", "word"), ("word", ""), ("", ""), ("Two words.", "")])
def test_page_shows_empty_summaries_and_one_word_documents(open_report, text, summary):
    page = open_report(explain_text(text, summary, title=None, lengths=()))
    assert page.get_by_role("heading", level=1).inner_text() == "Untitled document"
    assert words_of(page, "document").all_text_contents() == text.split()
    assert ("The summary is empty" in page.locator("#summary").inner_text()) == (not summary)
    for stage in page.get_by_role("radio").all():
        stage.check()


def test_buttons_and_list_switch_between_documents(explanation, open_report):
    other = explain_text("An entirely different text.", "different", seed=1, title="Second")
    page = open_report(explanation, other)
    words_of(page, "summary").nth(1).click()
    page.get_by_role("button", name="Next").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Second"
    assert words_of(page, "document").all_text_contents() == ["An", "entirely", "different", "text."]
    page.mouse.move(700, 5)
    assert page.locator("#sources").inner_text().startswith("Point at a word")  # nothing from the first document
    words_of(page, "summary").nth(0).hover()
    assert lit(page, "document") == {word for word, _ in other.summary.sources[0]}
    page.get_by_role("combobox", name="Document").select_option("0")
    assert levels(page) == expected_levels(explanation.stages[0].weights, top(explanation.stages[0].weights))
    assert page.get_by_role("button", name="Previous").is_disabled()


def test_page_shows_a_document_of_20000_words(open_report):
    explanation = explain_text(" ".join(f"word{i % 977}" for i in range(20_000)), SUMMARY)
    page = open_report(explanation)
    for stage in explanation.stages:
        page.get_by_role("radio", name=stage.name).check()
        assert levels(page) == expected_levels(stage.weights, top(stage.weights))
    words_of(page, "summary").nth(0).hover()
    assert lit(page, "document") == {word for word, _ in explanation.summary.sources[0]}


def test_reference_is_shown_below_the_summary(explanation, open_report):
    page = open_report(replace(explanation, reference="<b>One</b> of ours."), explanation)
    assert page.locator("#reference").inner_text() == "<b>One</b> of ours."
    reference, text = page.locator("#reference").bounding_box(), page.locator("#document").bounding_box()
    assert reference["y"] > page.locator("#summary").bounding_box()["y"] and reference["x"] < text["x"]
    page.get_by_role("button", name="Next").click()
    assert page.locator("#reference-section").is_hidden()


def test_stages_with_equal_weights_are_merged(explanation, open_report):
    first, second, decoder, used = explanation.stages
    alike = replace(explanation, stages=(first, second, decoder, replace(used, weights=decoder.weights)))
    page = open_report(alike)
    names = ["after layer 2", "after layer 3, seen by the decoder", "used by the summary"]
    assert page.locator("#stages label").all_text_contents() == names  # the stage "used" has another meaning
    page.get_by_role("radio", name="after layer 3").check()
    assert "that the summary is written from" in page.locator("#meaning").inner_text()
    words_of(page, "document").nth(6).hover()
    assert page.locator("#sources").inner_text().count("seen by the decoder") == 1
