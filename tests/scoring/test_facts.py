"""Tests of what counts as a number or a name."""

import pytest

from pyramidion_fairseq.scoring.facts import capitalised_names, numbers


@pytest.mark.parametrize(
    "text, found",
    [
        ("In 2018, 12,000 of 1,234,567 had 0.05 (95%).", ["2018", "12000", "1234567", "0.05", "95"]),
        ("p53, cbf1 and h1n1 are names", []),
        ("10mg, the 5th, covid-19, -3 and x_1", ["10", "5", "19", "3", "1"]),
        ("[1,2,3] and 3,5 and 0,125", ["1", "2", "3", "3", "5", "0", "125"]),
        ("version 1.2.3 ends in 7.", ["1.2.3", "7"]),
        ("p5.3 and p5.3.1", []),
        ("1,2345 and 1234,567", ["1", "2345", "1234", "567"]),
        ("three of <dig> and <dig>.", []),
        ("１２ и 3，and １，０００．５", ["12", "3", "1000.5"]),
        ("10² or 10⁻⁵ m² and x²3 and H₂O", ["10", "10"]),
        ("2½ or ½ or ¾ of 4", ["2", "4"]),
        ("№5, 10㎡, 25℃ and ５％", ["5", "10", "25", "5"]),
        ("H1,000 and H1,000,000 but 1,000 H", ["1000"]),
        ("in p53,2018 and in H1,5", ["2018", "5"]),
        ("p < .05, (.5), [.25,.75], p=.001 and -.5", ["0.05", "0.5", "0.25", "0.75", "0.001", "0.5"]),
        (".05 at the start", ["0.05"]),
        ("the end.5 of ...7 and Smith).3", ["5", "7", "3"]),
        ("PM2.5, v1.2 and 1.5mg2.5", ["1.5"]),
        ("e\u03015 is the name é5", []),
        ("", []),
    ],
)
def test_numbers_finds_numbers_but_not_names_with_digits(text, found):
    assert numbers(text) == found


@pytest.mark.parametrize(
    "sentences, any_script, names",
    [
        (["The model of Anna Smith reads HIV and mRNA.", "Anna is I."], False, ["Anna", "Smith", "HIV"]),
        (["(The) U.S. and COVID-19 in A.B."], False, ["COVID"]),
        (["Вчера Анна Смит была в Москве.", "Élan de Ève"], True, ["Анна", "Смит", "Москве", "Ève"]),
        (["lower case only", ""], False, []),
        (["我们在 Beijing 研究"], True, ["Beijing"]),
    ],
)
def test_capitalised_names_finds_names_but_not_sentence_starts(sentences, any_script, names):
    assert capitalised_names(sentences, any_script) == names
