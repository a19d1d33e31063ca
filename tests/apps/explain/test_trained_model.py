"""Tests of a trained model's report of held-out documents: it keeps the content words, and the page shows them."""

import pytest

from pyramidion_fairseq.cli import explain
from pyramidion_fairseq.inference.loading import load_summarizer
from tests.helpers.learned import MARKED, WORDS, held_out, write_learned
from tests.helpers.reports import check_report, expected_levels, levels, read, top, words_of

pytestmark = pytest.mark.soak  # it trains

UPDATES = 1000
GENERATION = {"min_len": 1, "max_len_b": MARKED + 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path, loss = write_learned(tmp_path_factory.mktemp("learned"), UPDATES)
    assert loss < 0.2, "the model has not learnt to copy"
    return path


def is_content(word):
    return int(word[1:]) < WORDS // 2


def test_trained_model_keeps_content_words_and_names_them_as_sources(checkpoint):
    texts = held_out(24)
    copied, named, content, filler = 0, 0, [], []
    for text, explanation in zip(texts, load_summarizer(checkpoint, device="cpu").explain(texts, **GENERATION)):
        words, summary = text.split(), explanation.summary
        copied += sum(a == b for a, b in zip(summary.words, filter(is_content, words)))
        named += sum(words[row[0][0]] == word for word, row in zip(summary.words, summary.sources))
        for word, weight in zip(words, explanation.stages[-2].weights):
            (content if is_content(word) else filler).append(weight)
    assert copied > 0.9 * MARKED * len(texts) and named > 0.9 * MARKED * len(texts)
    assert sum(content) / len(content) > 0.9 and sum(filler) / len(filler) < 0.1


def test_report_of_a_trained_model_shows_its_content_words(checkpoint, new_page, tmp_path):
    (text,) = held_out(1)
    (tmp_path / "held-out.txt").write_text(text)
    report, numbers = tmp_path / "report.html", tmp_path / "numbers.json"
    files = ["--input", str(tmp_path / "held-out.txt"), "--output", str(report), "--json", str(numbers)]
    lengths = ["--min-len", "1", "--max-len-b", str(MARKED + 1)]
    explain.main(["--checkpoint", checkpoint, "--device", "cpu", *files, *lengths])
    explanation = read(numbers)
    page = new_page()
    page.goto(report.as_uri())
    check_report(page, explanation)

    page.get_by_role("radio", name="seen by the decoder").check()
    dark = {word.text_content() for word in words_of(page, "document").all() if "s9" in word.get_attribute("class")}
    assert dark == set(filter(is_content, text.split())) == set(explanation.summary.words)
    decoder = explanation.stages[-2].weights
    assert levels(page) == expected_levels(decoder, top(decoder))
