"""Tests that rouge-score-rs gives exactly the scores of rouge-score, and is used only in compared versions."""

import gzip
import json
import random
import re
from importlib import metadata, util

import numpy as np
import pytest

from pyramidion_fairseq.scoring import RougeSettings, document_scores
from pyramidion_fairseq.scoring import rouge_score_backend as backend
from tests.helpers.paths import DATA, ROOT
from tests.helpers.texts import SENTENCES

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ODD = [
    "", " ", "\n\n", "...", "!?。、 \u0301", "\u212aelvin İstanbul ſ ﬁ", "a", "\ud800 a b \udfff", "x\x00y", "é" * 50,
    "ab\r\ncd", "a\u2028b a", "１２３ abc", "skies dying agreed 3rd rate1s", "a a b\na b a\nb",
]  # fmt: skip
installed = pytest.mark.skipif(util.find_spec("rouge_score_rs") is None, reason="rouge-score-rs is not installed")


def recorded():
    with gzip.open(DATA / "rouge_pairs.jsonl.gz", "rt", encoding="utf-8") as stream:
        return [(row["reference"], row["hypothesis"]) for row in map(json.loads, stream)]


def random_pairs(count):
    """Return pairs of random texts: repeated letters, any characters, and words of papers with punctuation."""
    draw, words = random.Random(1), " ".join(text for pair in recorded()[:20] for text in pair).split()

    def text(kind):
        size = draw.choice([0, 1, 2, 5, 20])
        if kind == 0:
            return draw.choice([" ", "\n"]).join(draw.choices("abc", k=size))
        if kind == 1:
            return "".join(chr(draw.choice([draw.randrange(128), draw.randrange(0x1FFFF)])) for _ in range(size))
        return " ".join(draw.choices([*words[:300], ".", "\n", "!", "12.5", "модель", "我们", "running"], k=size))

    return [(text(number % 3), text(number % 3)) for number in range(count)]


def long_pairs():
    draw, words = random.Random(2), " ".join(text for pair in recorded()[:20] for text in pair).split()
    return [(" ".join(draw.choices(words, k=600)), "\n".join(draw.choices(words, k=600)))]


CORPORA = {
    "recorded": recorded,
    "any script": lambda: [pair for a, b in SENTENCES.values() for pair in ((a, a), (a, b))],
    "odd": lambda: [(a, b) for a in ODD for b in ODD],
    "random": lambda: random_pairs(1000),
    "long": long_pairs,
}


@installed
@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize("tokenizer", ["rouge-score", "unicode"])
@pytest.mark.parametrize("stemming", [True, False])
def test_rouge_score_rs_and_rouge_score_give_identical_scores(corpus, tokenizer, stemming):
    from rouge_score_rs import rouge_scorer

    plain, fast = (backend.scorer(stemming, tokenizer, engine) for engine in (None, rouge_scorer))
    assert type(plain).__module__ == "rouge_score.rouge_scorer" != type(fast).__module__
    pairs = CORPORA[corpus]()
    assert len(pairs) == {"recorded": 229, "any script": 20, "odd": 225, "random": 1000, "long": 1}[corpus]
    pairs = pairs if (stemming, tokenizer) == (True, "rouge-score") else pairs[::5]
    expected, found = ([[tuple(s.score(*pair)[kind]) for kind in KINDS] for pair in pairs] for s in (plain, fast))
    assert found == expected


@installed
def test_fast_engine_is_used_without_changing_the_signature(monkeypatch):
    backend.fast_engine.cache_clear()
    assert backend.fast_engine().__name__ == "rouge_score_rs.rouge_scorer"
    fast, signature = document_scores(*zip(*recorded()[:30])), RougeSettings().signature(30)
    monkeypatch.setattr(backend, "fast_engine", lambda: None)
    np.testing.assert_array_equal(document_scores(*zip(*recorded()[:30])), fast)
    assert RougeSettings().signature(30) == signature and "version:rouge-score-0.1.2," in signature


@pytest.mark.parametrize("versions", [{"rouge-score-rs": "0.2.2"}, {"rouge-score": "0.1.3"}, {"rouge-score-rs": None}])
def test_fast_engine_is_not_used_in_versions_that_were_not_compared(monkeypatch, versions):
    def version(name):
        found = {**backend.COMPARED, **versions}[name]
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)
    assert backend.fast_engine.__wrapped__() is None


def test_compared_versions_are_those_of_setup_and_lock_file():
    fast, plain = backend.COMPARED["rouge-score-rs"], backend.COMPARED["rouge-score"]
    assert re.search(rf"rouge-score-rs=={re.escape(fast)};", (ROOT / "setup.py").read_text("utf-8"))
    lock = (ROOT / "requirements" / "lock.txt").read_text("utf-8").splitlines()
    assert f"rouge-score-rs=={fast}" in lock and f"rouge_score=={plain}" in lock
