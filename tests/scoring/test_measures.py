"""Tests of the measures beside ROUGE: hand-computed values, intervals and comparisons."""

import math

import numpy as np
import pytest
from rouge_score import tokenize

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.scoring import MEASURES, RougeSettings, compare_measures, measure_scores
from pyramidion_fairseq.scoring.bootstrap import partial_bootstrap, two_sided
from pyramidion_fairseq.scoring.measures import words_of
from pyramidion_fairseq.version import __version__

DOCUMENT = "In 2018 the cat of Anna sat on the mat. The dog of Ben ran 3.5 km."
SUMMARY = "The cat of Carl sat on the mat. The Dog of Anna ran 7 km in 2018."


def by_name(document, summary, **settings):
    (row,) = measure_scores([document], {"a": [summary]}, RougeSettings(samples=2, **settings))["a"].documents
    return dict(zip(MEASURES, row.tolist()))


def test_measures_match_hand_computed_values():
    """Compare with hand-computed values.

    Copied fragments: the cat of / sat on the mat the dog of / anna / ran / km / in 2018.
    The document has 18 words (3.5 counts as two), the summary 17.
    """
    assert by_name(DOCUMENT, SUMMARY) == pytest.approx(
        {
            "coverage": 100 * 15 / 17,
            "density": (3**2 + 7**2 + 1 + 1 + 1 + 2**2) / 17,
            "compression": 18 / 17,
            "novel_1": 100 * 2 / 17,  # carl, 7
            # of carl, carl sat; anna ran, ran 7, 7 km, km in
            "novel_2": 100 * 6 / 16,
            # with carl 3; dog of anna, of anna ran, anna ran 7, ran 7 km, 7 km in, km in 2018
            "novel_3": 100 * 9 / 15,
            # with carl 4; the dog of anna, dog of anna ran, and the four with 7
            "novel_4": 100 * 10 / 14,
            "repeated_3": 0,
            "unsupported_words": 2,
            "unsupported_numbers": 1,  # 7; the summary has 7 and 2018
            "unsupported_numbers_share": 50,
            "unsupported_names": 1,  # Carl, but not Anna and Dog, whose words are in the document
            "unsupported_names_share": 100 / 3,
            "words": 17,
            "sentences": 2,
        }
    )


def test_repeated_3_is_the_share_of_repeated_trigrams():
    values = by_name("x", "a b c a b c a b c")
    assert values["repeated_3"] == pytest.approx(100 * 4 / 7)  # 7 trigrams, 3 of them different
    assert values["unsupported_words"] == 9  # repeated ones count, too
    assert values["novel_1"] == values["novel_4"] == 100 and values["coverage"] == values["density"] == 0


def test_copied_beginning_is_fully_covered_and_not_novel():
    values = by_name("a b c d e f g h", "a b c d")
    assert (values["coverage"], values["density"], values["compression"], values["novel_4"]) == (100, 4, 2, 0)


def test_measures_without_a_denominator_are_nan():
    values = by_name("a b 3", "")
    assert [values[name] for name in ("words", "sentences", "unsupported_words", "unsupported_numbers")] == [0] * 4
    for name in ("coverage", "density", "compression", "novel_1", "repeated_3", "unsupported_numbers_share"):
        assert math.isnan(values[name])
    values = by_name("", "a b")
    assert values["coverage"] == values["compression"] == 0 and values["novel_2"] == 100
    assert math.isnan(values["novel_3"]) and math.isnan(values["unsupported_names_share"])


def test_measures_use_the_words_of_the_chosen_tokenizer():
    text = "Don't stop: 3.5 Müller <unk> naïve_x"
    assert words_of(text, RougeSettings()) == tokenize.tokenize(text, None)
    assert by_name("Модель читает текст", "Модель пишет", tokenizer="unicode")["novel_1"] == 50
    assert math.isnan(by_name("Модель читает текст", "Модель пишет")["novel_1"])
    values = by_name("Вчера Анна была в 2018", "Вчера Ольга и Анна в 2019", tokenizer="unicode")
    assert (values["unsupported_names"], values["unsupported_names_share"]) == (1, 50)
    assert values["unsupported_numbers"] == 1 and values["unsupported_words"] == 3
    chinese = by_name("我们研究细胞。", "我们细胞。研究", tokenizer="unicode")
    assert (chinese["coverage"], chinese["density"], chinese["sentences"]) == (100, 2, 2)


def test_separator_is_not_counted_as_a_word():
    values = by_name("a b <n> c d", "a b <n> c d x", separator="<n>")
    assert (values["words"], values["sentences"], values["density"]) == (5, 2, 16 / 5)


def test_means_skip_undefined_values_and_signature_names_the_settings():
    documents, summaries = ["a b c 1", "a b c", "a b c 2"], ["a b 1", "a x", ""]
    scores = measure_scores(documents, {"s": summaries}, RougeSettings(samples=200, seed=3))["s"]
    assert scores.get("novel_1")[0] == 25 and scores.get("novel_1")[3] == 2
    assert scores.get("words")[::3] == (pytest.approx(5 / 3), 3)
    assert scores.get("unsupported_numbers_share") == (0, 0, 0, 1)
    written = scores.as_dict()
    assert list(written) == list(MEASURES)
    assert written["unsupported_names_share"] == {"mean": None, "low": None, "high": None, "documents": 0}
    assert scores.signature == (
        "more|tok:rouge-score|case:lower|stem:no|sent:auto.1|facts:2|n:3|samples:200|seed:3|"
        f"version:pyramidion-{__version__}"
    )
    other = measure_scores(documents, {"s": summaries}, RougeSettings(tokenizer="unicode", separator="|"))["s"]
    assert "|tok:unicode.1|case:lower|stem:no|sent:'|'|" in other.signature


def test_measures_do_not_depend_on_document_order_or_workers():
    draw = np.random.RandomState(0)
    texts = [[" ".join(draw.choice(list("abcdef1"), size=size)) for _ in range(70)] for size in (30, 8)]
    first = measure_scores(texts[0], {"s": texts[1]})["s"]
    again = measure_scores(texts[0][::-1], {"s": texts[1][::-1]}, workers=2)["s"]
    for name in ("mean", "low", "high"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    np.testing.assert_array_equal(first.documents, again.documents[::-1])


def test_partial_bootstrap_matches_a_plain_bootstrap_that_skips_nan():
    rows = np.random.RandomState(0).rand(12, 2)
    rows[[1, 4, 5], 1] = np.nan
    mean, means, known = partial_bootstrap(rows, 40, seed=7)
    ordered = rows[np.lexsort(np.where(np.isnan(rows), 0, rows).T[::-1])]
    generator = np.random.RandomState(7)
    counts = [generator.multinomial(12, [1 / 12] * 12) for _ in range(40)]
    plain = [np.nanmean([row for row, times in zip(ordered, c) for _ in range(times)], axis=0) for c in counts]
    np.testing.assert_allclose(means, plain)
    np.testing.assert_allclose(mean, np.nanmean(rows, axis=0))
    assert known.tolist() == [12, 9]


def test_two_sided_p_is_twice_the_smaller_tail_share():
    means = np.array([[1.0, -1, 0, 1], [1, -1, 0, 1], [1, 2, 0, 1], [-1, 2, 0, 1]])
    np.testing.assert_array_equal(two_sided(means), [0.5, 1, 1, 0.25])


def test_compare_measures_gives_differences_intervals_and_p():
    documents = [f"a b c d e {number}" for number in range(40)]
    copies, others = [f"a b c {number}" for number in range(40)], [f"a x c {number + 1}" for number in range(40)]
    scores = measure_scores(documents, {"copy": copies, "other": [*others[:-1], ""]})
    rows = compare_measures(scores["copy"], scores["other"])
    assert rows["coverage"] == {"difference": 50, "low": 50, "high": 50, "p": 0.001, "documents": 39}
    assert rows["unsupported_words"]["difference"] == -2 * 39 / 40 and rows["unsupported_words"]["p"] == 0.001
    assert rows["unsupported_words"]["low"] < rows["unsupported_words"]["difference"]
    assert rows["repeated_3"] == {"difference": 0, "low": 0, "high": 0, "p": 1, "documents": 39}
    nothing = {"difference": None, "low": None, "high": None, "p": None, "documents": 0}
    assert rows["unsupported_names_share"] == nothing
    with pytest.raises(PyramidionError, match=r"not comparable: more\|"):
        compare_measures(scores["copy"], measure_scores(documents[:3], {"s": copies[:3]})["s"])


def test_measure_scores_refuses_unequal_or_empty_inputs():
    with pytest.raises(PyramidionError, match="2 documents, but 1 summaries of s"):
        measure_scores(["a", "b"], {"s": ["a"]})
    with pytest.raises(PyramidionError, match="no documents"):
        measure_scores([], {"s": []})
