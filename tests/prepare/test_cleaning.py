import pytest
from fairseq.tokenizer import tokenize_line
from hypothesis import given
from hypothesis import strategies as st

from pyramidion_fairseq.prepare.cleaning import clean


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("<S> one . </S> <S>two</S>", "one . two"),
        ("a <dig> b <cit> <s>kept</s>", "a <dig> b <cit> <s>kept</s>"),
        ("a\nb\r\nc\td\x0be\x0cf", "a b c d e f"),
        ("a\u2028b\u2029c\x85d\xa0e\u3000f\u1680g\u202fh", "a b c d e f g h"),
        ("a\x1cb\x1dc\x1ed\x1fe", "a b c d e"),
        ("\ufeffa\u200bb\u2060c\u200dd\u180ee", "a b c d e"),
        ("a\x01b\x7fc\x9fd", "a b c d"),
        (
            "a\u061cb\u200ec\u200fd\u202ae\u202bf\u202cg\u202dh\u202ei\u2066j\u2067k\u2068l\u2069m",
            "a b c d e f g h i j k l m",
        ),
        ("a\x00b", "ab"),
        ("co\u00adoperate", "cooperate"),
        ("a\ud800b", "a\ufffdb"),
        ("  a   b  ", "a b"),
        ("\u200b \n<S></S>", ""),
        ("\ufffd \ufffd", ""),
        ("\u2581 \u2581\u2581", ""),
        ("\u2581a", "\u2581a"),
        ("Caf\u00e9 Cafe\u0301 \ufb01", "Caf\u00e9 Cafe\u0301 \ufb01"),
        ("\U0001f600 ok", "\U0001f600 ok"),
    ],
)
def test_clean_removes_tags_control_characters_and_unusual_whitespace(raw, expected):
    assert clean(raw) == expected


def test_clean_lowercases_only_on_request():
    assert clean("Ab <S>C</S>") == "Ab C"
    assert clean("Ab <S>C</S>", lowercase=True) == "ab c"


@given(st.text(alphabet=st.characters(), max_size=60))
def test_clean_returns_one_utf8_line_with_single_plain_spaces(raw):
    text = clean(raw)
    text.encode("utf-8")
    assert len(text.splitlines()) <= 1
    assert text.split() == [word for word in text.split(" ") if word] == tokenize_line(text)
    assert "  " not in text
    assert clean(text) == text or "<" in text  # removing a tag can put another one together
