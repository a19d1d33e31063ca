"""Tests of ROUGE against recorded scores of ROUGE-1.5.5, of its bootstrap intervals and of its signature."""

import gzip
import json
import re
import shutil
import subprocess
from importlib import metadata

import numpy as np
import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.scoring import build_scorer
from rouge_score import rouge_scorer

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.scoring import (
    BACKENDS,
    METRICS,
    RougeSettings,
    compare,
    document_scores,
    files2rouge_backend,
    lead_baseline,
    rouge_scores,
    summarize,
)
from pyramidion_fairseq.scoring.bootstrap import bootstrap_means, interval
from pyramidion_fairseq.scoring.lead import mean_words
from pyramidion_fairseq.version import __version__
from tests.helpers import needs
from tests.helpers.paths import DATA

RECORD = json.loads((DATA / "rouge_1_5_5.json").read_text(encoding="utf-8"))
F1 = 2


@pytest.fixture(scope="module")
def pairs():
    with gzip.open(DATA / "rouge_pairs.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [row["reference"] for row in rows], [row["hypothesis"] for row in rows]


def prepared(texts, form):
    if form == "tokenised":
        return [" ".join(re.findall(r"\w+|[^\w\s]", text.lower())) for text in texts]
    return texts


@pytest.mark.parametrize("form", RECORD["means"])
def test_default_scores_are_within_005_points_of_rouge_1_5_5(pairs, form):
    ours = rouge_scores(*(prepared(side, form) for side in pairs), workers=2)
    theirs = np.array(RECORD["means"][form]["stemmed"])
    assert len(ours.documents) == 229
    assert np.abs(ours.mean - theirs)[:, F1].max() < 0.05


@pytest.mark.parametrize("form", RECORD["means"])
def test_scores_without_stemming_equal_rouge_1_5_5(pairs, form):
    """Check that only stemming differs: the two programs have different versions of Porter's algorithm."""
    ours = document_scores(*(prepared(side, form) for side in pairs), RougeSettings(stemming=False)).mean(axis=0)
    difference = np.abs(ours - RECORD["means"][form]["not stemmed"])
    assert difference[:3].max() < 0.0005  # the script prints five digits
    # For tokenised texts, the recorded Lsum splits sentences only at " .".
    assert difference[3].max() < (0.05 if form == "tokenised" else 0.0005)


@pytest.fixture
def script():
    """Skip the test if ROUGE-1.5.5 or a Perl module that it needs is missing."""
    try:
        files2rouge_backend.find_rouge()
    except PyramidionError as error:
        needs.missing("rouge155", f"needs ROUGE-1.5.5: {error}")
    perl = shutil.which("perl")
    if perl is None or subprocess.run([perl, "-MXML::Parser", "-MDB_File", "-e", "1"], capture_output=True).returncode:
        needs.missing("rouge155", "needs ROUGE-1.5.5 with Perl's XML::Parser: apt-get install libxml-parser-perl")


@pytest.mark.usefixtures("script")
def test_files2rouge_backend_gives_the_recorded_scores(pairs):
    settings = RougeSettings("files2rouge")
    scores = document_scores(*pairs, settings).mean(axis=0)
    assert np.abs(scores - RECORD["means"]["as written"]["stemmed"]).max() < 0.0005
    assert settings.signature(3).endswith(f"version:ROUGE-1.5.5,pyramidion-{__version__}")


def test_stem_cache_does_not_change_scores(pairs):
    references, hypotheses = (side[:40] for side in pairs)
    plain = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    expected = [list(plain.score(*pair).values()) for pair in zip(references, hypotheses)]
    np.testing.assert_array_equal(document_scores(references, hypotheses)[:, :3], 100 * np.array(expected))


def test_document_scores_match_hand_computed_values():
    """Compare with the example of Lin 2004, section 3.2, and with a summary of two sentences."""
    (scores,) = document_scores(
        ["police killed the gunman"], ["police kill the gunman"], RougeSettings(stemming=False)
    )
    np.testing.assert_allclose(scores, [[75] * 3, [100 / 3] * 3, [75] * 3, [75] * 3])
    (scores,) = document_scores(["a b c . d e f ."], ["d e f . a b c ."], RougeSettings(stemming=False))
    np.testing.assert_allclose(scores[:, F1], [100, 80, 50, 100])  # Lsum ignores the order of sentences


@pytest.mark.parametrize("tokenizer", ["rouge-score", "unicode"])
def test_line_breaks_do_not_end_sentences_if_there_is_a_separator(tokenizer):
    settings = RougeSettings(separator="<n>", tokenizer=tokenizer)
    texts = "a b c\nd e f<n>g h i", "d e f a b c<n>g h i"
    (scores,) = document_scores(*([text] for text in texts), settings)
    (expected,) = document_scores(*([text.replace("\n", " ")] for text in texts), settings)
    np.testing.assert_array_equal(scores, expected)
    assert scores[3, 2] == pytest.approx(200 / 3)


def test_text_after_an_angle_bracket_counts_and_empty_texts_score_0():
    scores = document_scores(["<unk> one < two > three", "", "a", "..."], ["one two three", "a", "", "a"])
    np.testing.assert_allclose(scores[0, 0], [100, 75, 600 / 7])
    assert not scores[1:].any()


@pytest.mark.paper("table-9")
def test_bootstrap_means_match_a_plain_bootstrap():
    rows = np.random.RandomState(0).rand(30, 2)
    generator = np.random.RandomState(7)
    counts = [generator.multinomial(30, [1 / 30] * 30) for _ in range(50)]
    plain = [np.mean([row for row, times in zip(rows, count) for _ in range(times)], axis=0) for count in counts]
    np.testing.assert_allclose(bootstrap_means(rows, 50, seed=7), plain)


def test_bootstrap_means_do_not_depend_on_the_chunk_size(monkeypatch):
    rows = np.random.RandomState(0).rand(30, 2)
    whole = bootstrap_means(rows, 50, seed=7)
    monkeypatch.setattr("pyramidion_fairseq.scoring.bootstrap._CHUNK", 100)
    np.testing.assert_allclose(bootstrap_means(rows, 50, seed=7), whole, rtol=1e-12)


@pytest.mark.paper("table-9")
def test_intervals_cover_the_mean_in_95_percent_of_corpora():
    """Check that in about 95% of 200 corpora of 60 documents the interval contains the known mean."""
    draw = np.random.RandomState(1)
    inside = 0
    for _ in range(200):
        low, high = interval(bootstrap_means(draw.beta(2, 5, size=(60, 1)), 400, seed=1))
        inside += low[0] <= 2 / 7 <= high[0]
    assert 0.90 <= inside / 200 <= 0.98


def test_scores_do_not_depend_on_document_order_or_workers_but_on_the_seed(pairs):
    references, hypotheses = (side[:70] for side in pairs)
    first = rouge_scores(references, hypotheses)
    again = rouge_scores(references[::-1], hypotheses[::-1], workers=2)
    for name in ("mean", "low", "high"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    np.testing.assert_array_equal(first.documents, again.documents[::-1])
    other = summarize(first.documents, RougeSettings(seed=2))
    assert (other.mean == first.mean).all() and (other.low != first.low).any()
    assert (first.low <= first.mean).all() and (first.mean <= first.high).all()


def test_signature_names_every_setting_and_version():
    version = f"rouge-score-{metadata.version('rouge-score')},pyramidion-{__version__}"
    scores = rouge_scores(["a b"], ["a b"])
    assert scores.signature == (
        f"rouge|stem:yes|tok:rouge-score|sent:auto.1|n:1|samples:1000|seed:1|version:{version}"
    )
    changed = RougeSettings(stemming=False, separator="<n>", samples=5, seed=3)
    assert changed.signature(2) == f"rouge|stem:no|tok:rouge-score|sent:'<n>'|n:2|samples:5|seed:3|version:{version}"
    assert scores.as_dict()["scores"]["rougeLsum"]["fmeasure"] == {"mean": 100.0, "low": 100.0, "high": 100.0}
    assert str(scores).startswith("ROUGE-1 100.00 [100.00, 100.00] ROUGE-2 100.00")


def test_compare_gives_differences_intervals_and_p(pairs):
    references, hypotheses = (side[:80] for side in pairs)
    good = rouge_scores(references, hypotheses)
    bad = rouge_scores(references, lead_baseline(hypotheses, 5))
    better, same = compare(good, bad), compare(good, good)
    for metric in METRICS:
        assert better[metric]["difference"] == pytest.approx(good.get(metric)[0] - bad.get(metric)[0])
        assert better[metric]["low"] <= better[metric]["difference"] <= better[metric]["high"]
        assert same[metric] == {"difference": 0, "low": 0, "high": 0, "p": 1}
    assert better["rouge1"]["p"] == 0.001
    few = RougeSettings(samples=7, seed=3)
    good, bad = (summarize(scores.documents, few) for scores in (good, bad))
    assert compare(good, bad)["rouge1"]["p"] == pytest.approx(1 / 7)
    with pytest.raises(PyramidionError, match="not comparable"):
        compare(good, rouge_scores(references[:5], hypotheses[:5]))


def test_rouge_scores_and_settings_refuse_invalid_arguments():
    with pytest.raises(PyramidionError, match="3 references but 1 hypotheses"):
        rouge_scores(["a"] * 3, ["a"])
    with pytest.raises(PyramidionError, match="no documents"):
        rouge_scores([], [])
    with pytest.raises(PyramidionError, match="unknown ROUGE backend 'rogue'; there are: rouge-score, files2rouge"):
        RougeSettings("rogue")
    for wrong in ({"samples": 0}, {"seed": -1}):
        with pytest.raises(PyramidionError, match="the bootstrap"):
            RougeSettings(**wrong)
    with pytest.raises(PyramidionError, match="the separator of sentences is empty: leave it out"):
        RougeSettings(separator="")


def scorer_of_fairseq(*chosen):
    given = ["data", "--task", "translation", "--scoring", "rouge", *chosen]
    args = options.parse_args_and_arch(options.get_generation_parser(), given)
    return build_scorer(convert_namespace_to_omegaconf(args).scoring, None)


def test_scoring_options_of_fairseq_generate_reach_the_settings():
    chosen = ["--rouge-no-stemming", "--rouge-separator", "<n>", "--rouge-samples", "7", "--rouge-seed", "3"]
    assert scorer_of_fairseq(*chosen).settings == RougeSettings(stemming=False, separator="<n>", samples=7, seed=3)
    assert scorer_of_fairseq().settings == RougeSettings()


def test_scorer_of_fairseq_generate_returns_rouge_2_and_matches_no_unknown_words():
    scorer = scorer_of_fairseq()
    scorer.add_string("a b <<unk>>", "a b <unk>")
    assert scorer.score() == pytest.approx(50) and scorer.scores().get("rouge1")[0] == pytest.approx(200 / 3)


def test_missing_backend_is_reported_with_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.delenv("ROUGE_HOME", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PyramidionError, match=r"not installed: pip install .*git clone .*files2rouge"):
        BACKENDS["files2rouge"].version()
    monkeypatch.setenv("ROUGE_HOME", str(tmp_path))
    with pytest.raises(PyramidionError, match=r"is incomplete, .*ROUGE-1\.5\.5\.pl is missing"):
        BACKENDS["files2rouge"].version()


def test_lead_baseline_takes_the_first_words():
    assert lead_baseline(["a b  c d", "a", ""], 2) == ["a b", "a", ""]


def test_mean_words_is_rounded_to_the_nearest_number():
    assert mean_words(["a b", "a b c", "a b c"]) == 3 and mean_words(["a b", "a b", "a b c"]) == 2
    assert mean_words([""]) == mean_words([]) == 1
