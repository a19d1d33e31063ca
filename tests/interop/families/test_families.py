"""Tests of every family against transformers: states, logits, generation, round trips."""

import copy
import json
from dataclasses import fields

import pytest
import torch
from fairseq import options
from fairseq.sequence_generator import SequenceGenerator

from pyramidion_fairseq.config import PyramidionConfig
from pyramidion_fairseq.interop import dictionary_files
from pyramidion_fairseq.interop.families.generation import read_generation
from tests.helpers.bart import documents, load
from tests.helpers.families import Forced, differences, encode, family_of

#: Within LED's window of 32, where its attention is full.
SHORT = 17


def test_states_and_logits_equal_transformers_also_with_padding(made, ours, model):
    tokens = documents([SHORT, 9, 3], len(ours[1]))[:2]
    assert max(differences(model, made[1], tokens, ours[1])) < 1e-4


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_generation_equals_transformers(made, ours, model, beam, monkeypatch):
    folder, rows = ours
    theirs = made[1]
    dictionary = model.decoder.dictionary
    settings = json.loads((folder / "generation.json").read_text())
    assert settings == {"beam": 2, "lenpen": 0.8, "min_len": 1, "max_len_b": 20, "no_repeat_ngram_size": 3}
    tokens = documents([SHORT, 9, 12, 5], len(rows))
    prefix = None
    if model.options.prepend_bos:
        marker = model.options.summary_marker
        first = dictionary.index(marker) if marker else dictionary.bos()
        prefix = torch.full((len(tokens), 1), first)
    generator = SequenceGenerator(
        [model], dictionary, beam_size=beam, max_len_b=20, len_penalty=0.8, no_repeat_ngram_size=3, min_len=1
    )
    sample = {"net_input": {"src_tokens": tokens, "src_lengths": tokens.ne(1).sum(1)}}
    best = [hypotheses[0] for hypotheses in generator.generate([model], sample, prefix_tokens=prefix)]
    found = [rows[hypothesis["tokens"]].tolist() for hypothesis in best]
    monkeypatch.setattr(theirs, "generation_config", copy.deepcopy(theirs.generation_config))
    written = theirs.generate(
        **encode(theirs, tokens, rows), num_beams=beam, early_stopping=beam > 1, min_length=2,
        suppress_tokens=[rows[1].item()], logits_processor=[Forced(theirs.generation_config)],
        output_scores=True, return_dict_in_generate=True,
    )  # fmt: skip
    eos = theirs.config.eos_token_id
    expected = [row[1 : row.index(eos, 1) + 1] for row in written.sequences.tolist()]
    assert found == expected
    assert min(map(len, expected)) < 20  # not all of them end at the maximum
    if beam > 1:
        scores = torch.stack([hypothesis["score"] for hypothesis in best])
        assert (scores - written.sequences_scores).abs().max() < 1e-4


def test_round_trip_through_transformers_is_bit_exact(transformers, ours, convert, kind):
    exported = convert("huggingface", ours[0])
    back = convert(family_of(kind), exported)
    before, after = (torch.load(folder / "model.pt")["model"] for folder in (ours[0], back))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for name in ("dict.txt", "generation.json"):
        first, second = (json.loads((f / name).read_text()) if name.endswith("json") else (f / name).read_text()
                         for f in (ours[0], back))  # fmt: skip
        assert first == second or {**second, **first} == second


def test_exported_directory_generates_like_the_pretrained_model(transformers, made, ours, convert):
    folder, rows = ours
    exported = convert("huggingface", folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(str(exported), trust_remote_code=True).eval()
    tokens = documents([SHORT, 9], len(rows))
    settings = {"num_beams": 2, "max_length": 22, "min_length": 0, "early_stopping": True}
    found = rows[model.generate(input_ids=tokens, attention_mask=tokens.ne(1).long(), **settings)]
    written = made[1].generate(
        **encode(made[1], tokens, rows), **settings, suppress_tokens=[rows[1].item()],
        forced_eos_token_id=made[1].config.eos_token_id,
    )  # fmt: skip
    eos = made[1].config.eos_token_id
    cut = [[row[1 : row.index(eos, 1) + 1] for row in ids.tolist()] for ids in (found, written)]
    assert cut[0] == cut[1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(exported), trust_remote_code=True)
    ids = tokenizer("hello world")["input_ids"]
    marker = model.config.pyramidion["document_marker"]
    symbols = dictionary_files.read_dictionary(folder / "dict.txt")
    if marker:
        assert symbols[ids[0 if model.config.pyramidion["prepend_bos"] else -1]] == marker
    assert ids.count(2) == 1
    mask = tokenizer("hello world", return_special_tokens_mask=True)["special_tokens_mask"]
    text = tokenizer("hello world", add_special_tokens=False)["input_ids"]
    assert [token for token, special in zip(ids, mask, strict=True) if not special] == text


def test_labels_of_the_tokenizer_equal_the_summaries_of_training(transformers, ours, convert):
    """Check that the language replaces ``<s>`` if the model has one; else the decoder starts from it."""
    folder = ours[0]
    exported = convert("huggingface", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(exported), trust_remote_code=True)
    options = torch.load(folder / "model.pt")["cfg"]["model"]
    marker, text = options["summary_marker"], "alpha beta"
    both = tokenizer("gamma", text_target=text)
    pieces = tokenizer(text, add_special_tokens=False)["input_ids"]
    first = [tokenizer.convert_tokens_to_ids(marker or "<s>")] if options["prepend_bos"] else []
    assert both["labels"] == [*first, *pieces, 2]
    assert both["input_ids"] == tokenizer("gamma")["input_ids"]


#: transformers' defaults: one beam, and no minimum length.
PLAIN = {"beam": 1, "lenpen": 1.0, "min_len": 1, "no_repeat_ngram_size": 0}


def test_generation_lengths_are_lowered_to_the_models_maximum(tmp_path, caplog):
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({"max_length": 500, "min_length": 300, "num_beams": 0}), encoding="utf-8")
    assert read_generation(tmp_path, {}, 64) == {**PLAIN, "max_len_b": 63, "min_len": 63}
    assert "num_beams=0 of" in caplog.text
    path.unlink()
    expected = {**PLAIN, "max_len_b": 20, "min_len": 4}
    assert read_generation(tmp_path, {"max_length": 22, "min_length": 5}, 64) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {}),
        ({"max_length": 22}, {"max_len_b": 20}),
        ({"max_length": 22, "min_length": 0, "num_beams": 4}, {"max_len_b": 20, "beam": 4}),
        ({"max_length": 22, "max_new_tokens": 9}, {"max_len_b": 8}),
        ({"min_length": 3, "min_new_tokens": 5}, {"min_len": 5}),
        ({"max_new_tokens": None, "min_new_tokens": None, "num_beams": None}, {}),
        ({"min_new_tokens": 99}, {"min_len": 63}),
    ],
)
def test_generation_settings_that_are_not_given_are_those_of_transformers(tmp_path, config, expected):
    assert read_generation(tmp_path, config, 64) == {**PLAIN, **expected}


def test_limits_of_new_tokens_are_those_of_lengths(made, model, ours):
    """Check that transformers counts one token less in new tokens, as ours assumes."""
    theirs, rows = made[1], ours[1]
    tokens = documents([SHORT, 9], len(rows))
    limits = [{"min_new_tokens": 6, "max_new_tokens": 8}, {"min_length": 7, "max_length": 9}]
    first, second = (
        theirs.generate(**encode(theirs, tokens, rows), num_beams=1, no_repeat_ngram_size=0, **limit)
        for limit in limits
    )
    assert torch.equal(first, second) and 8 <= first.size(1) <= 9
    assert read_generation(ours[0] / "a", limits[0], 64) == read_generation(ours[0] / "a", limits[1], 64)


def test_generation_settings_without_counterpart_are_named(tmp_path, caplog):
    config = {"suppress_tokens": [3], "begin_suppress_tokens": [], "repetition_penalty": 1.2, "do_sample": False}
    read_generation(tmp_path, config, 64)
    assert "suppress_tokens=[3] of" in caplog.text and "repetition_penalty=1.2 of" in caplog.text
    assert "begin_suppress_tokens" not in caplog.text and "do_sample" not in caplog.text
    caplog.clear()
    read_generation(tmp_path, {"pad_token_id": 1, "suppress_tokens": [1]}, 64)  # as in our exported directories
    assert not caplog.text


@pytest.fixture
def pooled(made, kind, convert):
    """Return our checkpoint of 256 tokens, 8 vectors, and LSG attention."""
    return convert(
        family_of(kind), made[0], "--max-source-positions", 256, "--pool-lengths", 8, "--lsg-block-size", 16,
        "--lsg-sparse-block-size", 16,
    )  # fmt: skip


def test_long_pooled_model_encodes_a_document_alone_as_in_a_batch(pooled):
    model = load(pooled)
    tokens = documents([200, 100], len(model.decoder.dictionary))
    with torch.no_grad():
        encoded = model.encoder(tokens, None)
        alone = model.encoder(tokens[1:, :100], None)
    assert encoded["encoder_out"][0].shape == (9, 2, 32)  # and the global token
    difference = encoded["encoder_out"][0][:, 1] - alone["encoder_out"][0][:, 0]
    assert difference.abs().max() < 1e-4


def test_global_tokens_are_made_of_positions_from_the_first(pooled, kind):
    """Check the first two: <s> at position 0, and <mask>, or the mean of all symbols, at position 64 of 1024."""
    state, model = torch.load(pooled / "model.pt")["model"], load(pooled)
    encoder, dictionary = model.encoder, model.encoder.dictionary
    tokens = encoder.embed_scale * state["encoder.embed_tokens.weight"]
    if kind == "pegasus":
        positions = encoder.embed_positions.first_positions(65)[[0, 64]]
    else:
        positions = state["encoder.embed_positions.weight"][[2, 6]]  # 64 of them, after two unused rows
    mask = tokens[dictionary.index("<mask>")] if "<mask>" in dictionary else tokens.mean(dim=0)
    expected = positions + torch.stack([tokens[dictionary.bos()], mask])
    torch.testing.assert_close(state["encoder.global_embeddings.weight"][:2], expected, rtol=0, atol=1e-5)


def test_arguments_txt_builds_the_converted_model(pooled):
    """Check the words of arguments.txt, which are for --finetune-from-model."""
    words = (pooled / "arguments.txt").read_text().split()
    common = ["data", "--task", "long_document_summarization", "--optimizer", "adam"]
    given = vars(options.parse_args_and_arch(options.get_training_parser(), [*common, *words]))
    saved = torch.load(pooled / "model.pt")["cfg"]["model"]
    known = [field for field in fields(PyramidionConfig) if field.name != "_name"]
    found = {field.name: str(given.get(field.name, field.default)) for field in known}
    assert found == {field.name: str(saved[field.name]) for field in known}
    assert given["arch"] == saved["_name"]
