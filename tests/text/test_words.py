"""Tests of splitting documents into words, sentences and sections, also for hostile text."""

import pytest

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.prepare.cleaning import clean
from pyramidion_fairseq.text import Document, split_document
from pyramidion_fairseq.text.tokenizer import join_words


def split(text, limit=10**6):
    return split_document(text if isinstance(text, Document) else Document.from_text(text), limit)


def sentences(text):
    document = split(text).document
    return [" ".join(document.words[start:end]) for start, end in document.sentences]


TEXTS = [
    "Plain text, as it is.",
    "  two\tlines\nand   a caf\u00e9\u00a0.",
    "<\x00S>tags with a NUL <\u00adS> or a soft hyphen inside",
    "<S> tags </S> <s> other <script>alert(1)</script> &amp;",
    "soft\u00adhyphen NUL\x00inside \x01control\x7f zero\u200bwidth \ufeffbom",
    "lone \ud800 surrogate",
    "\u65e5\u672c\u8a9e\u306e\u6587\u3002 mixed \U00020000x",
    "x" * 1000,
    "\ufffd\ufffd",
    "\x00\x00",
    "",
    " ",
    "word",
    "a wide\u3000space \u3000",
    "\u3000",
    "\U0001f600 emoji \U0001f468\u200d\U0001f469\u200d\U0001f467",
]


@pytest.mark.parametrize("text", TEXTS)
def test_words_join_to_the_text_that_preparation_writes(text):
    document = split(text).document
    assert join_words(document.words, document.space_after) == clean(text)
    assert all(document.words) and len(document.words) == len(document.space_after)
    "".join(document.words).encode("utf-8")


def test_long_words_are_split_into_at_most_64_characters():
    document = split("y" * 200 + " \u65e5\u672c").document
    assert [len(word) for word in document.words] == [64, 64, 64, 8, 1, 1]
    assert document.space_after == (False, False, False, True, False, False)


def test_given_sentences_are_separated_by_spaces_and_empty_sections_are_left_out():
    document = Document(("a b", "c", "d"), False, (("One", 1), ("None", 0), ("Two", 1), ("Three", 1)))
    found = split(document, limit=3).document
    assert (found.words, found.space_after) == (("a", "b", "c"), (True, True, False))
    assert [(section.name, section.start, section.end) for section in found.sections] == [("One", 0, 2), ("Two", 2, 3)]


def test_words_beyond_the_limit_are_left_out_and_counted():
    words = split(" ".join(f"w{i}" for i in range(1000)), limit=10)
    assert words.document.words == tuple(f"w{i}" for i in range(10)) and words.left_out == 990
    assert words.document.sentences == ((0, 10),)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("lower case. as in some corpora . tokenized .", ["lower case.", "as in some corpora .", "tokenized ."]),
        ("See Fig. 3 of A. Smith et al. p. 5. Next.", ["See Fig. 3 of A. Smith et al. p. 5.", "Next."]),
        ('He said "Stop." Then (no way!) . more He left.', ['He said "Stop."', "Then (no way!) .", "more He left."]),
        ("A heading\n\nA text\nin lines. End", ["A heading", "A text in lines.", "End"]),
        ("Version 2.5 is out; www.example.org too. Yes", ["Version 2.5 is out; www.example.org too.", "Yes"]),
        ("\u65e5\u672c\u3002\u672c", ["\u65e5 \u672c \u3002", "\u672c"]),
        ("", []),
    ],
)  # fmt: skip
def test_document_is_split_into_sentences(text, expected):
    assert sentences(text) == expected


RECORD = {
    "article_id": "a1",
    "article_text": ["first one . still first", "second .", "", "third"],
    "section_names": ["Intro", "<b>Results</b>"],
    "sections": [["first one . still first"], ["second .", "", "third"]],
    "abstract_text": ["<S> x </S>"],
}


def test_from_record_reads_sentences_and_sections():
    document = Document.from_record(RECORD)
    assert document.title == "a1"
    words = split(document).document
    assert " ".join(words.words) == "first one . still first second . third"
    assert words.sentences == ((0, 5), (5, 7), (7, 8))
    assert [(s.name, s.start, s.end) for s in words.sections] == [("Intro", 0, 5), ("<b>Results</b>", 5, 8)]
    cut = split(document, limit=6).document
    assert cut.sentences == ((0, 5), (5, 6)) and cut.sections[1].end == 6


def test_from_record_ignores_sections_that_do_not_fit_the_text():
    for wrong in ({"sections": [["first"], []]}, {"section_names": ["one"]}, {"sections": "x"}, {"sections": [1, 2]}):
        assert Document.from_record({**RECORD, **wrong}).sections == ()


def test_from_record_finds_the_text_field_or_refuses_the_record():
    assert Document.from_record({"text": "a bb. c"}).sentences == ("a bb. c",)
    assert sentences(Document.from_record({"text": "a bb. c"})) == ["a bb.", "c"]
    assert Document.from_record({"body": "x", "text": "y"}, field="body").sentences == ("x",)
    for blank in ("", " ", [], ["", " "], None):  # an empty column of a table
        assert Document.from_record({"article_text": blank, "text": "y"}).sentences == ("y",)
    assert Document.from_record({"article_text": "", "text": None}).sentences == ("",)
    for record, message in [
        ({"body": "x"}, "no field article_text or article or document or text; it has: 'body'"),
        ({}, "it has: nothing"),
        ({"text": 3}, "neither text nor a list of texts"),
        ({"text": ["a", 3]}, "neither text nor a list of texts"),
        ([], "not a JSON object but list"),
    ]:
        with pytest.raises(PyramidionError, match=message):
            Document.from_record(record)


@pytest.mark.parametrize(
    "fields, reference",
    [
        ({"abstract_text": ["<S> one . </S>", "<S> two . </S>"], "summary": "other"}, "<S> one . </S> <S> two . </S>"),
        ({"abstract": "", "target": "goal"}, "goal"),
        ({"abstract": [], "summary": ["a", "b"]}, "a b"),
        ({"abstract": 5, "summary": [1], "target": None}, None),
        ({}, None),
    ],
)
def test_from_record_finds_the_reference(fields, reference):
    assert Document.from_record({"text": "x", **fields}).reference == reference
    assert Document.from_record({"text": ["x"], **fields}).reference == reference


def test_field_of_the_text_is_not_used_as_the_reference():
    record = {"abstract": "the text", "target": "goal"}
    assert Document.from_record(record, field="abstract").reference == "goal"
    assert Document.from_record(record, field="target").reference == "the text"


@pytest.mark.parametrize(
    "fields, expected",
    [({"article_id": "a", "id": 2, "title": "t"}, "a"), ({"id": 0}, 0), ({"id": None}, None), ({"title": "t"}, None)],
)
def test_from_record_finds_the_article_id(fields, expected):
    assert Document.from_record({"text": ["x"], **fields}).article_id == expected
