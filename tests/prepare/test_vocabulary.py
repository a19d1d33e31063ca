import argparse
import io
import json
import random
import subprocess
import sys

import pytest
import sentencepiece
from fairseq.data import Dictionary

from pyramidion_fairseq.prepare import train_sentencepiece
from pyramidion_fairseq.prepare.dictionary_lines import dictionary_lines
from pyramidion_fairseq.prepare.errors import PrepareError
from pyramidion_fairseq.prepare.vocabulary_stage import load_model, vocabulary_stage

DEFAULTS = {
    "spm_model": None,
    "spm_sample": 100,
    "seed": 1,
    "spm_type": "unigram",
    "user_symbols": [],
    "lowercase": False,
    "labels": None,
    "second_field": None,
}


def random_text(lines, words, seed=1):
    chooser = random.Random(seed)
    vocabulary = ["".join(chooser.choices("abcdefghijklmnop", k=chooser.randint(2, 9))) for _ in range(words)]
    return "".join(" ".join(chooser.choices(vocabulary, k=30)) + " . End\n" for _ in range(lines))


@pytest.fixture
def train(tmp_path):
    """Return a function that trains on a text and returns the stage's result, the processor and the model's bytes."""

    def _train(text, **options):
        folder = tmp_path / "work" / f"stage{len(list(tmp_path.rglob('stage*')))}"
        folder.mkdir(parents=True)
        for side in ("source", "target"):
            (tmp_path / f"train.{side}").write_text(text, encoding="utf-8")
        args = argparse.Namespace(**{**DEFAULTS, "vocab_size": 200, **options})
        result = vocabulary_stage(args, str(tmp_path), text.count("\n"), str(folder))
        path = folder / "sentencepiece.model"
        return result, load_model(str(path), "model"), path.read_bytes()

    return _train


@pytest.mark.paper("hp-vocabulary")
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_vocabulary_has_the_exact_size_and_the_ids_of_fairseq(train, tmp_path, kind):
    result, processor, _ = train(random_text(100, 300), spm_type=kind)
    assert result == {"pieces": 200} and processor.get_piece_size() == 200
    (tmp_path / "dict.txt").write_text("\n".join(dictionary_lines(processor)) + "\n", encoding="utf-8")
    dictionary = Dictionary.load(str(tmp_path / "dict.txt"))
    assert len(dictionary) == 200
    assert dictionary.symbols == [processor.id_to_piece(number) for number in range(200)]
    assert not [symbol for symbol in dictionary.symbols if symbol.startswith("madeupword")]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_small_corpus_gives_fewer_pieces_with_a_warning(train, caplog, kind):
    result, processor, _ = train("ab ab abc bc\n" * 5, spm_type=kind, vocab_size=500)
    assert result["pieces"] == processor.get_piece_size() < 20
    assert "the corpus gives only {} pieces instead of 500".format(result["pieces"]) in caplog.text


def test_vocabulary_smaller_than_the_alphabet_is_refused(train):
    with pytest.raises(
        PrepareError, match=r"--vocab-size 8 is too small: the characters of the corpus alone need 2[0-9]"
    ):
        train(random_text(20, 30), vocab_size=8)


def test_vocabulary_training_is_reproducible_and_depends_on_the_seed(train):
    text = random_text(60, 300)
    models = [train(text, spm_sample=20, seed=seed)[2] for seed in (1, 1, 2)]
    assert models[0] == models[1] != models[2]


def test_names_of_special_symbols_in_the_text_are_not_learnt(train):
    _, processor, _ = train("x(<pad>) y(<pad>) <unk> <s> </s> z\n" * 50 + random_text(20, 50), vocab_size=120)
    pieces = processor.encode("(<pad>)<unk><s></s>", out_type=str)
    assert not {"<pad>", "<unk>", "<s>", "</s>"} & set(pieces)
    assert processor.decode(pieces) == "(<pad>)<unk><s></s>"


def test_user_symbols_are_single_pieces(train):
    _, processor, _ = train("a <dig> b <cit> c\n" * 30, user_symbols=["<dig>", "<cit>"], vocab_size=40)
    assert [piece for piece in processor.encode("x<dig>y <cit>", out_type=str) if "<" in piece] == ["<dig>", "<cit>"]


def test_lowercase_model_lowercases_what_it_encodes(train):
    _, processor, _ = train("ab abc\n" * 30, lowercase=True, vocab_size=20)
    assert processor.encode("AB ABC") == processor.encode("ab abc")


def test_sentences_are_at_most_4000_bytes_and_lose_no_text():
    text = "One. Two! " + "wide\u4e00 " * 3000 + "x" * 9000
    cut = list(train_sentencepiece.sentences(text))
    assert cut[:2] == ["One.", "Two!"]
    assert max(len(sentence.encode()) for sentence in cut) <= 4000
    assert "".join(cut).replace(" ", "") == text.replace(" ", "")


def test_sample_is_spread_out_reproducible_and_bounded_in_bytes(write, monkeypatch):
    files = [write("a", "line\n" * 1000), write("b", "x\n" * 1000)]  # 7 bytes a document
    plan = {"files": files, "documents": 1000, "sample": 50, "seed": 1}
    chosen = train_sentencepiece.chosen_documents(plan)
    assert len(set(chosen)) == 50 and chosen == sorted(chosen) and chosen[0] < 200 and chosen[-1] >= 800
    assert chosen == train_sentencepiece.chosen_documents(plan)
    monkeypatch.setattr(train_sentencepiece, "MAX_SAMPLE_BYTES", 70)
    assert len(train_sentencepiece.chosen_documents(plan)) == 10
    assert sorted(train_sentencepiece.sample(plan)) == ["line"] * 10 + ["x"] * 10


def test_dictionary_keeps_unusual_pieces_of_a_given_model(tmp_path):
    """Check a model from elsewhere with whitespace in a piece, no <pad>, and a learnt piece called <pad>."""
    text = ["a\x85b\u2003c <pad> x<pad> " + "lorem ipsum"] * 30
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        user_defined_symbols=["<pad>"],
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    size = processor.get_piece_size()
    assert any("\x85" in processor.id_to_piece(number) for number in range(size))
    (tmp_path / "dict.txt").write_text("\n".join(dictionary_lines(processor)) + "\n", encoding="utf-8")
    # <unk>, <s>, </s> and <pad> of the model are fairseq's own
    assert len(Dictionary.load(str(tmp_path / "dict.txt"))) == size


def test_encode_counts_tokens_as_fairseq_reads_them(train, tmp_path):
    from pyramidion_fairseq.prepare import encode_stage

    _, processor, model = train(random_text(50, 100), vocab_size=100)
    (tmp_path / "m.model").write_bytes(model)
    encode_stage.load(str(tmp_path / "m.model"))
    texts = [
        "plain abc",
        "\u4e00\u4e8c\u4e09 abc \u2603",
        "<pad>\u00e9<unk>",
        "a\x85b\u180ec",
        "\u0301\u200c\U0001f468\u200d",
    ]
    encoded = encode_stage.encode(texts)
    assert encoded.lengths == [len(line.split()) for line in encoded.lines]
    assert encoded.lengths == [len(ids) for ids in processor.encode(texts)]
    unknown = sum(ids.count(processor.unk_id()) for ids in processor.encode(texts))
    assert encoded.unknown == unknown > 3
    assert encoded.lines[0] == " ".join(processor.encode("plain abc", out_type=str))
    for line in encoded.lines:
        assert not {"<pad>", "<s>", "</s>"} & set(line.split())


def test_given_model_is_copied_unchanged(train, tmp_path, write):
    result, processor, model = train(random_text(50, 100), vocab_size=100)
    given, _, copied = train("other text\n", spm_model=write("given.model", model), vocab_size=7)
    assert given == result == {"pieces": 100}
    assert copied == model
    listed = max(tmp_path.rglob("sentencepiece.vocab")).read_text(encoding="utf-8").split("\n")[:-1]
    assert [line.split("\t")[0] for line in listed] == [processor.id_to_piece(number) for number in range(100)]


def test_load_model_refuses_a_file_that_is_no_model(tmp_path, write):
    with pytest.raises(PrepareError, match=r"bad\.model is not a sentencepiece model"):
        load_model(write("bad.model", b"junk"), "bad.model")


def test_train_sentencepiece_runs_as_a_program(tmp_path, write):
    plan = {"model": str(tmp_path / "m"), "files": [write("a", "ab abc\n" * 20)], "documents": 20, "sample": 9}
    plan.update(seed=1, vocab_size=12, type="unigram", user_symbols=[], lowercase=False)
    subprocess.run(
        [sys.executable, train_sentencepiece.__file__, write("plan.json", json.dumps(plan))],
        check=True,
        capture_output=True,
    )
    assert load_model(str(tmp_path / "m"), "m").id_to_piece(1) == "<pad>"
