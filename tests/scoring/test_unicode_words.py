"""Tests of words of any script: marks stay within words, scripts without spaces give characters."""

import gzip
import json
import unicodedata

import numpy as np
import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.scoring import build_scorer
from nltk.stem import porter
from rouge_score import tokenize

from pyramidion_fairseq.scoring import RougeSettings, document_scores, lead_baseline, rouge_scores
from pyramidion_fairseq.scoring.unicode_words import unicode_words, warn_of_lost_letters, word_ends
from tests.helpers.paths import DATA


@pytest.mark.parametrize(
    "text, words",
    [
        ("Модель читает <unk> Документы, 2018-й!", ["модель", "читает", "unk", "документы", "2018", "й"]),
        ("मॉडल दस्तावेज़ पढ़ता है।", ["मॉडल", "दस्तावेज़", "पढ़ता", "है"]),
        ("क्षत्रिय की हिंदी", ["क्षत्रिय", "की", "हिंदी"]),
        ("النموذجُ يقرأُ وثيقةً", ["النموذجُ", "يقرأُ", "وثيقةً"]),
        ("می\u200cروم", ["میروم"]),
        ("été ÉTÉ Straße STRASSE", ["été", "été", "strasse", "strasse"]),
        ("我们在2018年study细胞。", ["我", "们", "在", "2018", "年", "study", "细", "胞"]),
        ("コーヒー を", ["コ", "ー", "ヒ", "ー", "を"]),
        ("ที่นี่ 12 ก", ["ที่", "นี่", "12", "ก"]),
        ("모델은 긴", ["모델은", "긴"]),
        ("x_1 don't 3.5 naïve", ["x", "1", "don", "t", "3", "5", "naïve"]),
        ("!?。、 \u0301", []),
    ],
)
def test_unicode_words_of_any_script_and_normal_form(text, words):
    expected = [unicodedata.normalize("NFKC", word) for word in words]
    for form in ("NFC", "NFD", "NFKC"):
        assert unicode_words(unicodedata.normalize(form, text)) == expected


@pytest.fixture(scope="module")
def pairs():
    with gzip.open(DATA / "rouge_pairs.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    ascii_rows = [row for row in rows if (row["reference"] + row["hypothesis"]).isascii()]
    return [row["reference"] for row in ascii_rows], [row["hypothesis"] for row in ascii_rows]


@pytest.mark.parametrize("stemming", [True, False])
def test_english_words_and_scores_equal_those_of_rouge_score(pairs, stemming):
    assert len(pairs[0]) > 50
    stemmer = porter.PorterStemmer() if stemming else None
    for text in pairs[0][:20]:
        assert unicode_words(text, stemmer) == tokenize.tokenize(text, stemmer)
        words = unicode_words(text + " é", stemmer)  # the code for other scripts finds the same words
        assert words == [*tokenize.tokenize(text, stemmer), "é"]
    ours, theirs = (
        document_scores(*pairs, RougeSettings(stemming=stemming, tokenizer=name))
        for name in ("unicode", "rouge-score")
    )
    np.testing.assert_array_equal(ours, theirs)


def test_chinese_scores_match_hand_computed_values():
    """Compare with values by characters: 6 of 8 match in two sentences, whose order does not matter to ROUGE-Lsum."""
    settings = RougeSettings(tokenizer="unicode")
    (scores,) = document_scores(["我们研究。细胞生长。"], ["细胞生长。我们看书。"], settings)
    np.testing.assert_allclose(scores[:, 2], [75, 400 / 7, 50, 75])


@pytest.mark.parametrize("tokenizer, mean", [("unicode", 100), (None, 0)])
def test_rouge_tokenizer_option_applies_to_scoring_of_fairseq_generate(tokenizer, mean, caplog):
    chosen = ["--rouge-tokenizer", tokenizer] if tokenizer else []
    given = ["data", "--task", "translation", "--scoring", "rouge", *chosen]
    args = options.parse_args_and_arch(options.get_generation_parser(), given)
    scorer = build_scorer(convert_namespace_to_omegaconf(args).scoring, None)
    scorer.add_string("модель читает <<unk>>", "модель читает")
    scorer.add_string("слова", "слова")
    assert scorer.scores().get("rouge1", "precision")[0] == mean
    assert f"|tok:{'unicode.1' if tokenizer else 'rouge-score'}|" in scorer.result_string()
    assert ("3 of 4 texts score 0, as they have letters but no words" in caplog.text) == (tokenizer is None)


def test_lead_baseline_counts_words_or_characters():
    assert lead_baseline(["a b  c d", "我们研究 细胞", "ที่นี่ดี", " ", "été à la mer"], 2) == [
        "a b",
        "我们",
        "ที่นี่",
        "",
        "été à",
    ]
    assert word_ends("don't stop, x。") == [5, 11, 14]


@pytest.mark.parametrize("tokenizer", ["rouge-score", "unicode"])
def test_texts_of_symbols_alone_give_a_warning(tokenizer, caplog):
    texts = ["🎉🎉", "the decoder", " — !", ""]
    scores = rouge_scores(texts, texts, RougeSettings(tokenizer=tokenizer, samples=10))
    assert scores.documents[:, 0, 2].tolist() == [0, 100, 0, 0]
    assert caplog.messages == ["4 of 8 texts have no words, only punctuation or symbols (such as emoji), and score 0"]


@pytest.mark.parametrize(
    "texts, message",
    [
        (["привет", "hello"], "1 of 2 texts score 0, as they have letters but no words for the tokenizer rouge-score"),
        (["été à la mer"], "33.3% of the letters are not a-z"),
        (["the α of " + "plain words " * 50], ""),
        (["!", "", "12 34", "hello"], ""),
    ],
)
def test_warn_of_lost_letters_warns_only_of_letters_outside_the_tokenizer(texts, message, caplog):
    warn_of_lost_letters(texts, "rouge-score")
    assert message in caplog.text and bool(message) == bool(caplog.text)
