"""Tests of the sources of families: weights in the older format, fairseq's own mBART, refusals."""

import json
import shutil

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.data.multilingual.multilingual_utils import augment_dictionary

from pyramidion_fairseq.checkpoints import load_checkpoint
from pyramidion_fairseq.cli.convert import main
from pyramidion_fairseq.interop import dictionary_files
from pyramidion_fairseq.interop.families import TITLES
from pyramidion_fairseq.interop.families.every import FAMILIES
from pyramidion_fairseq.interop.families.mbart import LANGUAGES, LANGUAGES_50
from tests.helpers.bart import documents, load
from tests.helpers.families import FULL, KINDS, family_of, write_fairseq_mbart, write_pieces


@pytest.fixture
def given(made, tmp_path):
    """Return a copy of the directory with its weights in the older format, and its tensors by name."""
    folder = tmp_path / "given"
    shutil.copytree(made[0], folder, ignore=shutil.ignore_patterns("*.safetensors"))
    state = dict(made[1].state_dict())
    torch.save(state, folder / "pytorch_model.bin")
    return folder, state


def test_weights_in_the_older_format_convert_to_the_same_model(given, ours, kind, convert):
    folder = convert(family_of(kind), given[0], *FULL)
    found, expected = (torch.load(place / "model.pt")["model"] for place in (folder, ours[0]))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def refused(kind, folder, out, *flags):
    """Return the error line of a conversion that is refused and writes nothing."""
    with pytest.raises(SystemExit) as stop:
        main([family_of(kind), str(folder), str(out), *map(str, flags)])
    assert not out.exists() and "\n" not in stop.value.code
    return stop.value.code.removeprefix("pyramidion-convert: error: ")


def test_directory_of_another_family_is_refused(given, kind, tmp_path):
    path, title = given[0] / "config.json", TITLES[family_of(kind)][0]
    config = json.loads(path.read_text())
    other = "pegasus" if kind == "led" else "led"
    hint = f": convert it with 'pyramidion-convert {other}'"
    for model_type, more in ((other, hint), ("t5", ""), (None, ""), (["led"], None)):
        path.write_text(json.dumps({**config, "model_type": model_type}))
        line = refused(kind, given[0], tmp_path / "out")
        assert line == f"not a {title}: model_type is {model_type!r}{more}" if more is not None else line
    path.unlink()
    assert "config.json" in refused(kind, given[0], tmp_path / "out")


def test_missing_unknown_or_misshapen_tensors_are_refused(given, kind, tmp_path):
    folder, state = given
    prefix = "led." if kind == "led" and any(name.startswith("led.") for name in state) else "model."
    for change, message in (
        ({f"{prefix}decoder.layers.1.fc2.bias": None}, "decoder.layers.1.fc2.bias is missing"),
        ({f"{prefix}encoder.other.weight": torch.zeros(2)}, "encoder.other.weight is unknown"),
        ({f"{prefix}encoder.layers.0.fc1.bias": torch.zeros(3)}, "encoder.layers.0.fc1.bias is (3,), not (48,)"),
    ):
        changed = {name: tensor for name, tensor in {**state, **change}.items() if tensor is not None}
        torch.save(changed, folder / "pytorch_model.bin")
        assert refused(kind, folder, tmp_path / "out") == f"the tensors do not fit: {message}"


def test_files_without_the_weights_of_a_model_are_refused(given, kind, tmp_path):
    folder, state = given
    torch.save({"state_dict": state}, folder / "pytorch_model.bin")
    title = TITLES[family_of(kind)][0]
    line = refused(kind, folder, tmp_path / "out")
    assert line == f"the weights are not those of a {title}: there is no shared.weight"
    name = next(name for name in state if name.endswith("encoder.layers.0.fc1.bias"))
    torch.save({**state, name: state[name].int()}, folder / "pytorch_model.bin")
    line = refused(kind, folder, tmp_path / "out")
    assert line == "the tensors do not fit: encoder.layers.0.fc1.bias is of int32, not of floating point numbers"


def test_config_json_without_its_lengths_is_refused(given, kind, tmp_path):
    path = given[0] / "config.json"
    config = json.loads(path.read_text())
    names = {"max_position_embeddings": None}
    if kind == "led":
        names = {"max_encoder_position_embeddings": None, "max_decoder_position_embeddings": "x"}
    for name, value in names.items():
        path.write_text(json.dumps({**config, name: value}))
        line = refused(kind, given[0], tmp_path / "out")
        assert line == f"config.json must have a positive integer {name}, got {value!r}"


def test_options_that_config_json_lacks_are_those_of_transformers(transformers, given, kind, convert):
    path = given[0] / "config.json"
    config = json.loads(path.read_text())
    for name in ("activation_function", "scale_embedding", "encoder_attention_heads", "decoder_attention_heads"):
        config.pop(name, None)
    path.write_text(json.dumps(config))
    defaults = getattr(transformers, f"{KINDS[kind][0]}Config")()
    options = torch.load(convert(family_of(kind), given[0], *FULL) / "model.pt")["cfg"]["model"]
    activation = {"gelu_accurate": "gelu_new"}.get(options["activation_fn"], options["activation_fn"])
    assert activation == defaults.activation_function
    for name in ("encoder_attention_heads", "decoder_attention_heads"):
        assert options[name] == getattr(defaults, name)
    assert options["no_scale_embedding"] == (not getattr(defaults, "scale_embedding", False))


def test_existing_output_folder_is_refused_before_weights_are_read(given, kind, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    (given[0] / "pytorch_model.bin").unlink()  # its absence would be reported first
    with pytest.raises(SystemExit, match="out exists: remove it, or choose another name"):
        main([family_of(kind), str(given[0]), str(tmp_path / "out")])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_damaged_merges_are_refused(given, kind, tmp_path):
    """Check that missing merges are an error: every text would silently be split into bytes."""
    if kind != "led":
        pytest.skip("the tokenizer has no merges")
    path = given[0] / "merges.txt"
    for content, message in (
        (b"", "is damaged: it contains no merges"),
        (b"#version: 0.2\n", "is damaged: it contains no merges"),
        (b"h e\nhe", "'he' is not of the form 'left right'"),
        (b"\xff\xfe", "is damaged: it is no text in UTF-8"),
    ):
        path.write_bytes(content)
        assert message in refused(kind, given[0], tmp_path / "out")


def test_tokenizer_of_another_size_is_refused(given, kind, tmp_path):
    """Check the tokenizer of a model with three symbols more."""
    folder, state = given
    size = state["lm_head.weight"].size(0)
    rows = {name: tensor for name, tensor in state.items() if tensor.dim() == 2 and tensor.size(0) == size}
    torch.save({**state, **{name: tensor[:-3] for name, tensor in rows.items()}}, folder / "pytorch_model.bin")
    line = refused(kind, folder, tmp_path / "out")
    assert line.startswith("the tokenizer ")
    assert line.endswith(f" does not fit: it has {size:,} symbols, but the model's embedding {size - 3:,} rows")


def test_pegasus_vocabulary_with_a_small_offset_is_refused(given, kind, tmp_path):
    if "pegasus" not in kind:
        pytest.skip("the vocabulary has no offset")
    (given[0] / "tokenizer_config.json").write_text('{"offset": 2}')
    write_pieces(given[0] / "spiece.model", (2, -1, 1, 0))
    assert "its offset is at least 3 (it is 2)" in refused(kind, given[0], tmp_path / "out")
    (given[0] / "spiece.model").unlink()
    assert "has no sentencepiece model" in refused(kind, given[0], tmp_path / "out")


def test_bigbird_pegasus_may_have_the_rows_of_pegasus(tmp_path):
    """Check a tokenizer with an offset, whose pieces follow unused rows."""
    (tmp_path / "tokenizer_config.json").write_text('{"offset": 6}')
    size = write_pieces(tmp_path / "spiece.model", (2, -1, 1, 0)) + 6
    found = FAMILIES["bigbird_pegasus"].vocabulary(tmp_path, size, None)
    assert found.symbols[:6] == ["<s>", "<pad>", "</s>", "<unk>", "<mask_2>", "<unk_2>"]
    assert found.rows[:7] == [2, 0, 1, 8, 3, 4, 5] and sorted(found.rows) == list(range(size))


def test_start_of_generation_from_another_symbol_is_refused(given, kind, tmp_path):
    """Check BART's and LED's ``</s>``, PEGASUS's padding and BigBird-PEGASUS's ``<s>``."""
    if kind.startswith("mbart"):
        pytest.skip("the start is a language")
    path = given[0] / "generation_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "decoder_start_token_id": 1}))
    title = TITLES[kind][0]
    start = 0 if kind == "pegasus" else 2
    line = refused(kind, given[0], tmp_path / "out")
    assert line == f"cannot convert a {title} with decoder_start_token_id=1: only {start} is supported"


def test_language_of_documents_is_that_of_transformers_if_none_is_given(given, kind, convert, capfd):
    if not kind.startswith("mbart"):
        pytest.skip("no languages")
    model = load(convert("mbart", given[0], *FULL))
    assert model.options.document_marker == "en_XX"
    assert model.options.summary_marker == ("fr_XX" if kind == "mbart-50" else "en_XX")
    assert "does not name the language of documents: en_XX, as in transformers" in capfd.readouterr().err
    (given[0] / "tokenizer_config.json").write_text('{"src_lang": "de_DE"}')
    assert load(convert("mbart", given[0], *FULL)).options.document_marker == "de_DE"
    assert "as in transformers" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("window", "block"), [(512, 256), ([512, 1024], 512), (100, 64), ([3000, 8], 2048), (2, None)]
)
def test_blocks_of_led_contain_half_its_largest_window(transformers, window, block):
    config = transformers.LEDConfig().to_dict() | {"model_type": "led", "attention_window": window}
    given = FAMILIES["led"].from_config(config)
    assert given.get("lsg_block_size") == block


@torch.no_grad()
@pytest.mark.parametrize("languages", [LANGUAGES, LANGUAGES_50], ids=["mbart", "mbart-50"])
def test_converted_fairseq_mbart_equals_fairseq(languages, convert, tmp_path):
    path, theirs, symbols = write_fairseq_mbart(
        tmp_path, languages, langs=",".join(languages), source_lang="en_XX", target_lang="ro_RO"
    )
    model = load(convert("mbart", path, *FULL))
    assert model.decoder.dictionary.symbols == symbols
    options = model.options
    assert (options.document_marker, options.summary_marker) == ("[en_XX]", "[ro_RO]")
    assert options.prepend_bos == (languages is LANGUAGES_50)
    tokens, summaries = documents([30, 12, 1], len(symbols)), documents([9, 9, 9], len(symbols), seed=1)
    summaries[:, 0] = 2
    encoded, expected = (m.encoder(tokens, None)["encoder_out"][0] for m in (model, theirs))
    assert (encoded - expected)[tokens.T.ne(1)].abs().max() < 1e-5
    read = summaries if options.prepend_bos else summaries.masked_fill(summaries == 2, symbols.index("[ro_RO]"))
    assert (model(tokens, None, summaries)[0] - theirs(tokens, None, read)[0]).abs().max() < 1e-5


def test_fairseq_mbart_without_a_language_needs_document_marker(convert, tmp_path):
    """Check a pretrained model, which does not record its language."""
    path, _, symbols = write_fairseq_mbart(tmp_path, LANGUAGES, langs=",".join(LANGUAGES))
    line = refused("mbart", path, tmp_path / "out")
    assert line == (
        "the model does not say its language: give --document-marker, such as en_XX ([en_XX] in fairseq's, or "
        "__en_XX__)"
    )
    line = refused("mbart", path, tmp_path / "out", "--document-marker", "[de_DE]", "--summary-marker", "[xx]")
    assert line == "--summary-marker [xx]: the dictionary has no such symbol"
    chosen = ["--document-marker", "[de_DE]", "--summary-marker", "[fr_XX]"]
    assert load(convert("mbart", path, *FULL, *chosen)).decoder.start_symbol == symbols.index("[fr_XX]")


@torch.no_grad()
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("told", [{"langs": LANGUAGES_50}, {"lang_dict": "ML50_langs.txt"}], ids=["langs", "file"])
def test_mbart_50_of_translation_multi_simple_epoch_equals_fairseq(told, mask, convert, tmp_path, capfd):
    """Check fairseq's symbols: with --lang-tok-style multilingual, the default, there is no ``<mask>``."""
    style = "mbart" if mask else "multilingual"
    dictionary = Dictionary()
    augment_dictionary(dictionary, LANGUAGES_50, style)
    pairs = {"lang_pairs": ["fr_XX-en_XX"], "encoder_langtok": "src", "decoder_langtok": True}
    mark = "[{}]" if mask else "__{}__"
    path, theirs, symbols = write_fairseq_mbart(
        tmp_path, LANGUAGES_50, mark, ["<mask>"] * mask, lang_tok_style=style, **told, **pairs
    )
    assert symbols[-len(dictionary) + 4 :] == dictionary.symbols[4:]
    folder = convert("mbart", path, *FULL)
    row = "<mask>" if mask else "no <mask>, for which the embedding has no row"
    ends = f"{mark.format('ar_AR')} to {mark.format('sl_SI')}"
    assert f"INFO | after the pieces 52 languages, {ends}, and {row}\n" in capfd.readouterr().err
    model = load(folder)
    options = model.options
    assert model.decoder.dictionary.symbols == symbols and options.prepend_bos
    assert (options.document_marker, options.summary_marker) == (mark.format("fr_XX"), mark.format("en_XX"))
    tokens, summaries = documents([30, 12], len(symbols)), documents([9, 9], len(symbols), seed=1)
    encoded, expected = (m.encoder(tokens, None)["encoder_out"][0] for m in (model, theirs))
    assert (encoded - expected)[tokens.T.ne(1)].abs().max() < 1e-5
    assert (model(tokens, None, summaries)[0] - theirs(tokens, None, summaries)[0]).abs().max() < 1e-5
    back = convert("mbart", convert("huggingface", folder))
    before, after = (torch.load(place / "model.pt")["model"] for place in (folder, back))
    assert all(torch.equal(before[name], after[name]) for name in before) and before.keys() == after.keys()


def test_global_tokens_of_mbart_without_mask_use_the_mean_embedding(convert, tmp_path):
    told = {"lang_tok_style": "multilingual", "source_lang": "en_XX", "target_lang": "en_XX"}
    path, theirs, _ = write_fairseq_mbart(tmp_path, LANGUAGES, "__{}__", [], **told)
    folder = convert("mbart", path, "--lsg-block-size", 16, "--lsg-sparse-block-size", 16)
    done = json.loads((folder / "conversion.json").read_text())["tensors"]
    (what,) = [change["what"] for change in done if "encoder.global_embeddings.weight" in change["tensors"]]
    assert what == "new global tokens, of spread positions, <s> and the mean embedding"
    embedding, positions = theirs.encoder.embed_tokens.weight, theirs.encoder.embed_positions.weight
    state = torch.load(folder / "model.pt")["model"]
    expected = 32**0.5 * embedding.mean(0)
    found = state["encoder.global_embeddings.weight"][1:]
    apart = ((found - expected)[:, None] - positions[2:]).abs().amax(dim=-1).min(dim=1).values
    assert apart.max() < 1e-5  # each is one of the positions


@pytest.mark.parametrize("languages, rows", [(LANGUAGES, 24), (LANGUAGES_50, 51)], ids=["mbart", "mbart-50"])
def test_dictionary_and_languages_that_do_not_fill_the_embedding_are_refused(languages, rows, tmp_path):
    """Check a dict.txt that lacks pieces: every symbol after them would silently get another's row."""
    path, _, symbols = write_fairseq_mbart(tmp_path, languages, langs=",".join(languages), source_lang="en_XX")
    known = len(symbols) - len(languages) - 1
    for given, counted in ((f"the {len(languages)} languages of its training", ",".join(languages)), ("25 or 52", "")):
        checkpoint = torch.load(path, weights_only=False)
        checkpoint["args"].langs = counted
        torch.save(checkpoint, path)
        lines = (tmp_path / "dict.txt").read_text().splitlines(keepends=True)
        (tmp_path / "short.txt").write_text("".join(lines[:-3]))
        line = refused("mbart", path, tmp_path / "out", "--dictionary", tmp_path / "short.txt")
        assert f"embedding has {len(symbols):,} rows, its dictionary {known - 3:,} symbols" in line and given in line


def test_dictionary_that_includes_the_languages_is_accepted(convert, tmp_path):
    """Check a dictionary like that of mBART-50, which some extend before they prepare data."""
    path, _, symbols = write_fairseq_mbart(tmp_path, LANGUAGES_50, langs=",".join(LANGUAGES_50), source_lang="en_XX")
    flags = ["--dictionary", tmp_path / "all.txt", "--summary-marker", "[en_XX]"]
    for count in (len(symbols), len(symbols) - 1):  # with <mask>, and without
        dictionary_files.write_dictionary(symbols[:count], tmp_path / "all.txt")
        assert load(convert("mbart", path, *FULL, *flags)).decoder.dictionary.symbols == symbols


def test_language_symbols_on_one_side_only_are_refused(tmp_path):
    sides = {"encoder_langtok": "src", "decoder_langtok": False}
    path, _, _ = write_fairseq_mbart(tmp_path, LANGUAGES, "__{}__", [], lang_tok_style="multilingual", **sides)
    line = refused("mbart", path, tmp_path / "out")
    assert "with encoder_langtok='src' and decoder_langtok=False: documents and summaries both start" in line


def test_encoder_langtok_tgt_marks_documents_with_the_summary_language(convert, tmp_path):
    told = {"lang_tok_style": "multilingual", "encoder_langtok": "tgt", "decoder_langtok": True}
    path, _, _ = write_fairseq_mbart(tmp_path, LANGUAGES, "__{}__", [], lang_pairs="fr_XX-de_DE", **told)
    folder = convert("mbart", path, *FULL)
    options = load(folder).options
    assert (options.document_marker, options.summary_marker) == ("__de_DE__", "__de_DE__") and options.prepend_bos
    assert load_checkpoint(folder / "model.pt")["cfg"]["bpe"] is None  # its sentencepiece model was not found


def test_mbart_directory_without_the_mask_row_is_converted(given, kind, convert, capfd):
    """Check a directory that transformers makes of a fairseq checkpoint without ``<mask>``."""
    if not kind.startswith("mbart"):
        pytest.skip("only mBART may lack the row")
    folder, state = given
    size = state["lm_head.weight"].size(0)
    changed = {
        name: tensor[:-1] if tensor.dim() == 2 and len(tensor) == size else tensor for name, tensor in state.items()
    }
    torch.save(changed, folder / "pytorch_model.bin")
    model = load(convert("mbart", folder, *FULL))
    assert "no <mask>, for which the embedding has no row\n" in capfd.readouterr().err
    assert len(model.decoder.dictionary) == size - 1 and "<mask>" not in model.decoder.dictionary
    assert torch.equal(model.encoder.embed_tokens.weight, state["model.shared.weight"][:-1])


def test_fairseq_checkpoints_of_other_families_are_refused(tmp_path):
    path, _, _ = write_fairseq_mbart(tmp_path, LANGUAGES)
    for kind in ("pegasus", "led", "bigbird_pegasus"):
        title = TITLES[kind][0]
        assert refused(kind, path, tmp_path / "out") == f"fairseq has no {title}: give a Hugging Face directory"
