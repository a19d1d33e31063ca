"""Tests that tokens equal those of fairseq and that every token has its word."""

import io
from types import SimpleNamespace

import pytest
import sentencepiece
from fairseq.data import Dictionary
from fairseq.data.encoders.sentencepiece_bpe import SentencepieceBPE

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.text import Document, SentencepieceTokenizer, WordTokenizer, split_document
from pyramidion_fairseq.text.byte_level import is_byte_level
from pyramidion_fairseq.text.tokenizer import _words_of
from tests.helpers.models import make_dictionary

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "a <dig> caf\u00e9 of numbers, and words.",
    "final \u65e5\u672c",
] * 20


@pytest.fixture(scope="module")
def processor():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=70, hard_vocab_limit=False, minloglevel=2,
        character_coverage=1.0, user_defined_symbols=["<dig>"], bos_id=0, pad_id=1, eos_id=2, unk_id=3,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.fixture(scope="module")
def tokenizer(processor):
    dictionary = Dictionary()
    for number in range(4, processor.get_piece_size()):
        dictionary.add_symbol(processor.id_to_piece(number))
    return SentencepieceTokenizer(dictionary, processor)


def stock(tokenizer, text):
    """Return the token ids by fairseq's own encoder, and that encoder."""
    bpe = SentencepieceBPE.__new__(SentencepieceBPE)
    bpe.sp, bpe.enable_sampling, bpe.alpha = tokenizer.processor, False, None
    return tokenizer.dictionary.encode_line(bpe.encode(text), add_if_not_exist=False, append_eos=False).tolist(), bpe


def encode(tokenizer, text, limit=10**6):
    words = split_document(Document.from_text(text), 10**6).document
    return tokenizer.encode(words.words, words.space_after, limit)


TEXTS = [
    "the quick brown fox",
    "A Caf\u00e9,  of\twords. \ufb01nal \u00bd \u00b4 x \uff21\uff22 naive\u0301",
    "<dig> of <dig>, x<dig>y",
    "\u65e5\u672c\u8a9e the \u65e5",
    "unknown \U0001f600 \u0950",
    "y" * 150,
]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_equal_those_of_fairseq(tokenizer, text):
    encoded = encode(tokenizer, text)
    assert list(encoded.tokens) == stock(tokenizer, text)[0]
    assert len(encoded.token_words) == len(encoded.tokens)


@pytest.mark.parametrize("text", TEXTS)
def test_every_word_has_its_tokens_in_order(tokenizer, text):
    encoded = encode(tokenizer, text)
    assert list(encoded.token_words) == sorted(encoded.token_words)
    assert set(encoded.token_words) <= set(range(len(encoded.words)))
    if "\u65e5" not in text and "y" * 65 not in text:  # a piece may span words that no space separates
        assert set(encoded.token_words) == set(range(len(encoded.words)))


def test_tokens_of_a_word_spell_the_word(tokenizer):
    encoded = encode(tokenizer, "the quick brown fox, and <dig> words of numbers.")
    for number, word in enumerate(encoded.words):
        pieces = [tokenizer.dictionary[t] for t, w in zip(encoded.tokens, encoded.token_words) if w == number]
        assert "".join(pieces).replace("\u2581", "") == word


@pytest.mark.parametrize("limit", [1, 2, 7, 100, 1000])
def test_encode_with_a_limit_gives_the_first_tokens(tokenizer, limit):
    text = " ".join(CORPUS)
    whole, cut = encode(tokenizer, text), encode(tokenizer, text, limit)
    assert cut.tokens == whole.tokens[:limit] and cut.token_words == whole.token_words[:limit]
    assert cut.words == whole.words


def test_encode_with_a_limit_splits_only_the_needed_part_of_a_text(tokenizer, monkeypatch):
    sizes = []
    split = SentencepieceTokenizer._split
    monkeypatch.setattr(
        SentencepieceTokenizer, "_split", lambda self, text: sizes.append(len(text)) or split(self, text)
    )
    assert len(encode(tokenizer, "the quick fox " * 100_000, limit=100).tokens) == 100
    assert sum(sizes) < 4000
    assert len(encode(tokenizer, "y" * 1_000_000, limit=100).tokens) == 100


@pytest.mark.parametrize("text", ["the quick brown fox, and <dig> words.", "fox", ""])
def test_decode_gives_the_text_of_fairseq_and_the_word_of_every_token(tokenizer, text):
    ids, bpe = stock(tokenizer, text)
    decoded = tokenizer.decode(ids)
    assert decoded.text == bpe.decode(tokenizer.dictionary.string(ids)) == text
    assert decoded.token_words == encode(tokenizer, text).token_words
    assert decoded.words == tuple(text.split())
    assert decoded.space_after == tuple(number < len(decoded.words) for number in range(1, len(decoded.words) + 1))


def test_piece_of_several_words_belongs_to_the_word_of_its_last_character():
    ends = [1, 3, 5]  # of "a", "bc" and, after a space, "d"
    assert _words_of([(0, 1), (0, 2), (1, 3), (3, 4), (3, 5), (4, 5)], ends) == (0, 1, 1, 2, 2, 2)


def test_decode_aligns_stray_spaces_and_unknown_tokens(tokenizer):
    index = tokenizer.dictionary.index
    ids = [index("\u2581"), index("\u2581"), tokenizer.dictionary.unk(), index("\u2581"), index("x"), index("\u2581")]
    decoded = tokenizer.decode(ids)
    assert decoded.text == "<unk> x" and decoded.token_words == (0, 0, 0, 1, 1, 1)
    assert tokenizer.decode([index("\u2581")]).words == ()


def test_word_tokenizer_encodes_and_decodes_words():
    tokenizer = WordTokenizer(make_dictionary(40))
    encoded = encode(tokenizer, "w1  w2 other w3", limit=3)
    assert encoded.tokens == (5, 6, 3) and encoded.token_words == (0, 1, 2)
    assert encode(tokenizer, "").tokens == ()
    decoded = tokenizer.decode([5, 6, 3])
    assert decoded.text == "w1 w2 <unk>" and decoded.token_words == (0, 1, 2)


@pytest.mark.parametrize("length", [1, 9, 15, 40])
def test_documents_of_words_of_any_length_are_encoded_up_to_the_limit(length):
    tokenizer = WordTokenizer(make_dictionary(40))
    assert len(encode(tokenizer, " ".join(["x" * length] * 30), limit=10).tokens) == 10


@pytest.mark.parametrize("symbols, found", [("1 2 a", True), ("1 2 a b", False), ("1 a b", False), ("a b", False)])
def test_dictionary_is_byte_level_if_most_symbols_are_numbers(symbols, found):
    dictionary = Dictionary()
    for symbol in symbols.split():
        dictionary.add_symbol(symbol)
    assert is_byte_level(dictionary) == found


def test_offsets_of_older_sentencepiece_versions_are_read(tokenizer):
    class Older:
        def encode(self, text, out_type):
            if out_type != "immutable_proto":
                raise ValueError(out_type)
            found = tokenizer.processor.encode(text, out_type="offset_mapping")
            pieces = [SimpleNamespace(piece=p, begin=b, end=e) for p, (b, e) in zip(found["pieces"], found["offsets"])]
            return SimpleNamespace(pieces=pieces)

    older = SentencepieceTokenizer(tokenizer.dictionary, Older())
    assert encode(older, TEXTS[1]) == encode(tokenizer, TEXTS[1])


def test_missing_or_invalid_sentencepiece_model_is_refused(tmp_path):
    (tmp_path / "x.model").write_text("nothing")
    for path in ("x.model", "missing.model"):
        with pytest.raises(PyramidionError, match="is not a sentencepiece model, or cannot be read"):
            SentencepieceTokenizer.from_file(make_dictionary(9), str(tmp_path / path))


def test_decode_ignores_the_start_symbol_of_a_summary(tokenizer):
    """Check ``<s>``, which models with ``--prepend-bos`` write first."""
    ids = encode(tokenizer, "the quick fox").tokens
    for kind in (tokenizer, WordTokenizer(tokenizer.dictionary)):
        decoded = kind.decode([0, *ids])
        assert decoded.words == kind.decode(ids).words and len(decoded.token_words) == len(ids) + 1
