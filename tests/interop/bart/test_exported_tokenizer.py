"""Tests of exported tokenizers, also run with every transformers that setup.py allows (scripts/versions.py)."""

import io
import json
import logging
import pickle
import random

import pytest
import sentencepiece
import torch
from fairseq.data import Dictionary

from pyramidion_fairseq.cli.convert import main
from pyramidion_fairseq.inference.loading import load_summarizer
from pyramidion_fairseq.interop import byte_level, dictionary_files
from pyramidion_fairseq.text import Document, build_tokenizer, split_document
from tests.helpers.bart import MERGES, randomise
from tests.helpers.summaries import SENTENCES, article, write_checkpoint

#: One beam: the </s> at the maximum length has a score in fairseq, and none in transformers.
GREEDY = {"beam": 1, "min_len": 3, "no_repeat_ngram_size": 2}
FLAGS = ["--beam", 1, "--min-len", 3, "--no-repeat-ngram-size", 2]
LENGTHS = {"max_source_positions": 64, "max_target_positions": 24}
TEXTS = [
    "pooling keeps the best vectors, and the scorer rates every token!",
    "A Summary of WORDS: Capitals, caf\u00e9, cafe\u0301, \ufb01nal, \u00bd, \uff21\uff22, a\u0301\u0302\u0303",
    "<dig> of <dig>,x<cit>y <dig><cit> (<dig>)  ends in <dig> ",
    "<s> a </s> <S> b </S> <unk> <pad> <mask> madeupword0000 <DIG> <dig",
    "two\tlines\nand\u00a0 soft\u00adhyphen zero\u200bwidth NUL\x00 \ufeffbom \u3000 wide \x7f",
    "\u65e5\u672c\u8a9e\u306e\u6587\u3002 \u0e40\u0e01\u0e33 \uac01 \u1100\u1161\u11a8 \U0001f468\u200d\U0001f469",
    "lone \ud800 surrogate \ufffd",
    "",
    " \n ",
    "\u3000",
    "\ufffd",
]


def write_folder(folder, kind="unigram", rule="nmt_nfkc", last=("madeupword0000", "<mask>"), **options):
    """Write a checkpoint, dictionaries and a sentencepiece model to a folder; return the checkpoint's path."""
    model, symbols = io.BytesIO(), ["<dig>", "<cit>"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_writer=model, vocab_size=100, hard_vocab_limit=False,
        character_coverage=1.0, minloglevel=2, user_defined_symbols=symbols, model_type=kind,
        normalization_rule_name=rule, bos_id=0, pad_id=1, eos_id=2, unk_id=3,
    )  # fmt: skip
    (folder / "sentencepiece.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    dictionary = Dictionary()
    for symbol in [*map(processor.id_to_piece, range(4, processor.get_piece_size())), *last]:
        dictionary.add_symbol(symbol)
    for side in ("source", "target"):
        dictionary.save(str(folder / f"dict.{side}.txt"))
    path = write_checkpoint(folder, **{**LENGTHS, **options})
    model, checkpoint = load_summarizer(path, device="cpu").models[0], torch.load(path)
    randomise(model)
    torch.save({**checkpoint, "model": model.state_dict()}, path)
    return path


def export(transformers, folder, out, *flags):
    """Return (tokenizer, model) of the directory that the command writes."""
    main(["huggingface", str(folder), str(out), *map(str, flags)])
    return load_tokenizer(transformers, out), transformers.AutoModelForSeq2SeqLM.from_pretrained(
        str(out), trust_remote_code=True
    ).eval()


def load_tokenizer(transformers, folder):
    return transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    write_folder(folder)
    return folder


@pytest.fixture(scope="module")
def exported(transformers, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "pieces"
    export(transformers, folder, out, *FLAGS)
    return out


@pytest.fixture
def tokenizer(transformers, exported):
    return load_tokenizer(transformers, exported)


def ids_of(hub, text, limit=10**6):
    words = split_document(Document.from_text(text), 10**6).document
    return list(build_tokenizer(hub.src_dict, hub.bpe).encode(words.words, words.space_after, limit).tokens)


def fuzzed(count):
    """Return random texts of characters that sentencepiece changes, joins or does not know."""
    drawn = random.Random(0)
    parts = [*"aetoA \u00a0\t.,<>\u0301\u0302\ufb01\u2581\u00ad\u0e33", "<dig>", "<cit>", "the "]
    return ["".join(drawn.choices(parts, k=drawn.randint(1, 30))) for _ in range(count)]


@pytest.mark.parametrize("kind, rule", [("unigram", "nmt_nfkc"), ("bpe", "nmt_nfkc_cf"), ("char", "identity")])
def test_exported_tokenizer_encodes_and_decodes_like_ours(transformers, tmp_path, kind, rule):
    (tmp_path / "in").mkdir()
    write_folder(tmp_path / "in", kind, rule)
    tokenizer, model = export(transformers, tmp_path / "in", tmp_path / "out")
    hub = load_summarizer(str(tmp_path / "in"), device="cpu")
    assert len(tokenizer) == model.config.vocab_size == len(hub.src_dict)
    assert tokenizer.get_vocab() == hub.src_dict.indices
    assert tokenizer.convert_ids_to_tokens(list(range(len(hub.src_dict)))) == hub.src_dict.symbols
    assert tokenizer.mask_token_id == len(tokenizer) - 1 and tokenizer.model_max_length == 64
    for text in [*TEXTS, *fuzzed(200)]:
        expected = ids_of(hub, text)
        assert tokenizer(text, truncation=False)["input_ids"] == [*expected, 2], text
        ours = build_tokenizer(hub.tgt_dict, hub.bpe).decode(expected).text
        assert tokenizer.decode([2, *expected, 2, 1, 1], skip_special_tokens=True) == ours, text
    assert "".join(tokenizer.tokenize("x<cit>y <dig>")).endswith("x<cit>y\u2581<dig>")


def test_exported_model_and_tokenizer_write_our_summaries(transformers, folder, exported, tokenizer):
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(str(exported), trust_remote_code=True).eval()
    documents = [article(3), article(30, seed=1), "<dig> words", article(1, seed=2)]
    inputs = tokenizer(documents, padding=True, return_tensors="pt")
    assert set(inputs) == {"input_ids", "attention_mask"} and inputs["input_ids"].shape == (4, 64)
    texts = tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)
    expected = load_summarizer(str(folder), device="cpu").summarize(documents, **GREEDY)
    assert texts == [summary.text for summary in expected] and len(set(texts)) > 1


def test_exported_tokenizer_prepends_bos_if_the_model_does(transformers, tmp_path):
    (tmp_path / "in").mkdir()
    write_folder(tmp_path / "in", prepend_bos=True)
    tokenizer, model = export(transformers, tmp_path / "in", tmp_path / "out", *FLAGS)
    hub = load_summarizer(str(tmp_path / "in"), device="cpu")
    documents = [article(20), article(1, seed=2)]
    inputs = tokenizer(documents, padding=True, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == [0, *ids_of(hub, documents[0], 62), 2]
    texts = tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)
    summaries = hub.summarize(documents, **GREEDY)
    assert texts == [summary.text for summary in summaries] and "<s>" not in "".join(texts)


def test_overlong_texts_are_truncated_with_one_warning(tokenizer, caplog):
    long = article(40)
    with caplog.at_level(logging.WARNING):
        for encode in (lambda: tokenizer([long, long])["input_ids"][1], lambda: tokenizer.encode(long)):
            ids = encode()
            assert len(ids) == 64 and ids[-1] == 2
    (message,) = [record.getMessage() for record in caplog.records if "maximum of 64" in record.getMessage()]
    whole = len(tokenizer(long, truncation=False)["input_ids"])
    assert message.startswith(f"a text of {whole:,} tokens") and whole > 64
    assert len(tokenizer(long, max_length=10, truncation=True)["input_ids"]) == 10


def test_saved_and_pickled_copies_of_the_tokenizer_give_the_same_ids(transformers, exported, tokenizer, tmp_path):
    """Save twice, so that files come from the first copy; and pickle, as ``datasets`` does for its processes."""
    expected, source = tokenizer(TEXTS)["input_ids"], tokenizer
    for name in ("once", "twice"):
        source.save_pretrained(tmp_path / name)
        source = load_tokenizer(transformers, tmp_path / name)
        assert source(TEXTS)["input_ids"] == expected and len(source) == len(tokenizer)
        assert source.decode(expected[1]) == tokenizer.decode(expected[1])
    for file in ("sentencepiece.model", "dict.txt"):
        assert (tmp_path / "twice" / file).read_bytes() == (exported / file).read_bytes()
    assert pickle.loads(pickle.dumps(tokenizer))(TEXTS)["input_ids"] == expected  # noqa: S301 -- our own


def test_special_tokens_mask_and_token_types_match_the_ids(tokenizer):
    out = tokenizer("a <dig>", return_special_tokens_mask=True, return_token_type_ids=True)
    assert out["special_tokens_mask"] == [0] * (len(out["input_ids"]) - 1) + [1]
    assert out["token_type_ids"] == [0] * len(out["input_ids"])


def test_ids_that_are_masked_in_labels_are_refused(tokenizer):
    with pytest.raises(IndexError, match="-100 is not the id of a token: replace -100 in labels"):
        tokenizer.decode([5, -100])


def test_example_of_the_model_card_runs(exported):
    card = (exported / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("PATH", str(exported))
    assert len(code.splitlines()) <= 10 and "torch, transformers and sentencepiece, but not" in card
    names = {}
    exec(code, names)  # noqa: S102 -- our own card
    assert len(names["texts"]) == 2 and all(isinstance(text, str) for text in names["texts"])


def test_conversion_back_keeps_the_sentencepiece_model(folder, exported, convert):
    ours = convert("bart", exported)
    assert (ours / "sentencepiece.model").read_bytes() == (folder / "sentencepiece.model").read_bytes()
    found, expected = (
        load_summarizer(str(place), device="cpu").summarize([article(4)], **GREEDY) for place in (ours, folder)
    )
    assert found[0].text == expected[0].text


def write_byte_level(folder, symbols, **options):
    """Write a folder like :func:`write_folder`, with a byte-level BPE; return it."""
    folder.mkdir()
    byte_level.write_bpe(byte_level.Bpe(byte_level.numbers_of(MERGES), MERGES), folder)
    for side in ("source", "target"):
        dictionary_files.write_dictionary(symbols, folder / f"dict.{side}.txt")
    write_checkpoint(folder, **{**LENGTHS, **options})
    return folder


@pytest.mark.parametrize("prepend_bos", [False, True])
def test_byte_level_tokenizer_prepends_bos_if_the_model_does(transformers, tmp_path, symbols, prepend_bos):
    folder = write_byte_level(tmp_path / "in", symbols, prepend_bos=prepend_bos)
    tokenizer, _ = export(transformers, folder, tmp_path / "out")
    hub, text = load_summarizer(str(folder), device="cpu"), "hello world, h\u00e9llo w\u00f6rld \u2603"
    read = hub._read(text, hub._tokenizers()[0])[2].tokens
    assert (read[0] == 0) == prepend_bos
    tokenizer.save_pretrained(tmp_path / "saved")
    for found in (tokenizer, load_tokenizer(transformers, tmp_path / "saved")):
        assert found(text)["input_ids"] == [*read, 2] and found.model_max_length == 64
        assert found.decode([*read, 2], skip_special_tokens=True) == text


def test_no_tokenizer_is_exported_where_transformers_cannot_load_or_match_it(tmp_path, symbols, capsys):
    """Check a dictionary that lacks a token, which becomes <unk>, and a model with symbols of languages."""
    number = str(byte_level.numbers_of(MERGES)["hello"])
    lacking = [symbol for symbol in symbols if symbol != number]
    write_byte_level(tmp_path / "lacking", lacking)
    write_byte_level(tmp_path / "marked", symbols, document_marker=number, summary_marker=number)
    for name, reason in (
        ("lacking", "the dictionary lacks 1 of the BPE's 263 tokens, and transformers needs all"),
        ("marked", "transformers' byte-level BPE cannot add the symbols of languages"),
    ):
        out = tmp_path / f"{name}_out"
        main(["huggingface", str(tmp_path / name), str(out)])
        assert reason in capsys.readouterr().err
        assert (out / "dict.txt").is_file() and not (out / "tokenizer_config.json").exists()


def test_sentencepiece_model_is_found_by_option_or_beside_the_data(folder, tmp_path, convert):
    """Check --bpe with a folder or file, the folder above the dictionaries, and the one known from training."""
    data = tmp_path / "data" / "data-bin"
    data.mkdir(parents=True)
    for side in ("source", "target"):
        (data / f"dict.{side}.txt").write_bytes((folder / f"dict.{side}.txt").read_bytes())
    model = folder / "sentencepiece.model"
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "checkpoint_best.pt").write_bytes((folder / "checkpoint_best.pt").read_bytes())
    dictionary = ["--dictionary", data / "dict.source.txt"]
    bare = convert("huggingface", alone, *dictionary)
    assert (bare / "dict.txt").is_file() and not (bare / "tokenizer_config.json").exists()
    (data.parent / "sentencepiece.model").write_bytes(model.read_bytes())
    for flags in (["--bpe", data.parent], ["--bpe", model], []):
        out = convert("huggingface", alone, *dictionary, *flags)
        assert (out / "sentencepiece.model").read_bytes() == model.read_bytes()
        assert (out / "tokenizer_config.json").is_file()
    out = convert("huggingface", alone)  # the checkpoint has the folder of its training
    assert (out / "sentencepiece.model").is_file()


@pytest.mark.parametrize(
    "bpe, message",
    [
        ("empty", "has no sentencepiece.model: give the path of the file or its folder with --bpe"),
        ("dict.source.txt", "is not a sentencepiece model"),
    ],
)
def test_invalid_sentencepiece_model_is_refused(folder, tmp_path, bpe, message):
    (tmp_path / "empty").mkdir()
    given = tmp_path / bpe if bpe == "empty" else folder / bpe
    for kind in ("huggingface", "bart"):
        source = folder / "checkpoint_best.pt"
        flags = ["--dictionary", str(folder / "dict.source.txt"), "--bpe", str(given)]
        with pytest.raises(SystemExit) as stop:
            main([kind, str(source), str(tmp_path / "out"), *flags])
        assert message in stop.value.code and "\n" not in stop.value.code
        assert not (tmp_path / "out").exists()


def test_sentencepiece_model_of_another_training_is_refused(folder, tmp_path):
    checkpoint = torch.load(folder / "checkpoint_best.pt")
    symbols = "\n".join(Dictionary.load(str(folder / "dict.source.txt")).symbols)
    checkpoint["extra_state"]["vocabularies"] = {"source": symbols, "target": symbols, "sentencepiece": "0" * 64}
    torch.save(checkpoint, tmp_path / "model.pt")
    with pytest.raises(
        SystemExit, match=r"is not the sentencepiece model that .*model\.pt was trained with; give its path with --bpe"
    ):
        main(["huggingface", str(tmp_path / "model.pt"), str(tmp_path / "out"), "--bpe", str(folder)])


def test_generation_json_is_exported_to_generation_config(folder, tmp_path, convert, capsys):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = {"beam": 3, "lenpen": 1.5, "min_len": 7, "max_len_b": 12, "no_repeat_ngram_size": 3}
    (tmp_path / "generation.json").write_text(json.dumps({**settings, "max_len_a": 0.5}))
    for flags, beam in (([], 3), (["--beam", 4], 4)):
        written = json.loads((convert("huggingface", tmp_path, *flags) / "generation_config.json").read_text())
        assert (written["num_beams"], written["length_penalty"], written["no_repeat_ngram_size"]) == (beam, 1.5, 3)
        assert (written["min_length"], written["max_length"]) == (8, 14)
    assert "sets max_len_a, which transformers does not support" in capsys.readouterr().err


def test_generation_json_survives_the_conversion_of_our_models(folder, tmp_path, convert):
    """Check our own models; the settings of a published BART are for other summaries."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "dict.txt").write_bytes((folder / "dict.source.txt").read_bytes())
    settings = {"beam": 3, "lenpen": 1.5, "min_len": 7, "max_len_b": 12, "no_repeat_ngram_size": 3}
    (tmp_path / "generation.json").write_text(json.dumps(settings))
    for given in (tmp_path / "checkpoint_best.pt", convert("huggingface", tmp_path)):
        back = load_summarizer(str(convert("bart", given)), device="cpu")
        assert back.generation_settings == settings


def test_export_of_the_packaged_model_is_refused_for_its_pointer(tmp_path):
    """Check that the error names the pointer."""
    with pytest.raises(SystemExit, match=r"has no pointer, which this model has \(--pointer\)"):
        main(["huggingface", "pubmed-small", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
