"""Tests of splitting tokenised text, written text and text with a separator into sentences."""

import pytest

from pyramidion_fairseq.scoring import split_sentences

CASES = {
    "tokenised and lower case": (
        "we study x . results ( fig . 2 ) hold for p < 0.05 . is it so ? yes !",
        ["we study x .", "results ( fig .", "2 ) hold for p < 0.05 .", "is it so ?", "yes !"],
    ),
    "tokenised: attached marks are abbreviations": (
        "dr. smith et al. found approx. 5 cases . they e.g. rested .",
        ["dr. smith et al. found approx. 5 cases .", "they e.g. rested ."],
    ),
    "tokenised: other attached marks do not end sentences": (
        "a bacterium of sp. nov grows . it dies .",
        ["a bacterium of sp. nov grows .", "it dies ."],
    ),
    "written": (
        'We study x. It costs 0.5 USD. Does it work? Yes! "It does." (See below.) 12 of 30 agreed.',
        [
            "We study x.",
            "It costs 0.5 USD.",
            "Does it work?",
            "Yes!",
            '"It does."',
            "(See below.)",
            "12 of 30 agreed.",
        ],
    ),
    "abbreviations": (
        "As Fig. 3 of J. Smith et al. (2018) shows, e.g. Eq. 4 vs. No. 5 in the U.S. Army, it holds. Done.",
        ["As Fig. 3 of J. Smith et al. (2018) shows, e.g. Eq. 4 vs. No. 5 in the U.S. Army, it holds.", "Done."],
    ),
    "a small letter goes on": ("Use the sys.path of Python. pip does.", ["Use the sys.path of Python. pip does."]),
    "written in lower case": (
        "this holds. that does not. see fig. 3.",
        ["this holds.", "that does not.", "see fig. 3."],
    ),
    "line ends": ("First line\nsecond line\r\n\n third. Fourth.", ["First line", "second line", "third.", "Fourth."]),
    "nothing": (" \n ", []),
    "no mark at all": ("just words", ["just words"]),
    "one mark after the other": ("Really?! Yes...", ["Really?!", "Yes..."]),
}


@pytest.mark.parametrize("name", CASES)
def test_split_sentences_of_tokenised_and_written_text(name):
    text, sentences = CASES[name]
    assert split_sentences(text) == sentences


def test_split_sentences_splits_only_at_a_given_separator_and_drops_it():
    assert split_sentences("One. Two.<n>Three. <n> ", "<n>") == ["One. Two.", "Three."]
    assert split_sentences("one\r\n\ntwo <n>three\n", "<n>") == ["one two", "three"]


@pytest.mark.parametrize("name", CASES)
def test_split_sentences_loses_only_whitespace(name):
    text = CASES[name][0]
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    "text, sentences",
    [
        ("他来了。“她走了吗？”没有！完", ["他来了。", "“她走了吗？”", "没有！", "完"]),
        ("यह मॉडल है। वह पढ़ता है॥ अंत", ["यह मॉडल है।", "वह पढ़ता है॥", "अंत"]),
        ("هل يقرأ؟ نعم. انتهى۔", ["هل يقرأ؟", "نعم.", "انتهى۔"]),
        ("Модель читает. Она пишет.", ["Модель читает.", "Она пишет."]),
        *CASES.values(),
    ],
)
def test_split_sentences_knows_the_marks_of_any_script_on_request(text, sentences):
    assert split_sentences(text, any_script=True) == sentences


def test_split_sentences_ignores_marks_of_other_scripts_by_default():
    """Check it so that scores of earlier versions do not change."""
    assert split_sentences("他来了。她走了。") == ["他来了。她走了。"]
