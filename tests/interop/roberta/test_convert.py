"""Tests of pyramidion-convert roberta: against transformers and fairseq, reports of tensors, refusals."""

import copy
import json
import shutil

import pytest
import torch

from pyramidion_fairseq.apps.classify.loading import load_classifier
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.models.encoder_layer import call_layer
from pyramidion_fairseq.text import Document
from tests.helpers.bart import documents, old_checkpoint, write_bpe
from tests.helpers.roberta import HEAD, build_stock

FULL = ["--attention", "full", "--max-positions", 64]
KINDS = ["roberta", "camembert", "xlm-roberta"]


def theirs_of(kind, tokens):
    """Return the same documents in transformers' ids: CamemBERT's <s> and </s> come after four unused rows."""
    if kind != "camembert":
        return tokens
    swapped = {0: 5, 5: 0, 2: 6, 6: 2}
    return torch.tensor([[swapped.get(token, token) for token in row] for row in tokens.tolist()])


def read(folder):
    return load_classifier(str(folder), device="cpu")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", [FULL, ["--attention", "blockwise", "--block-size", 64]], ids=["full", "one block"])
@torch.no_grad()
def test_converted_classifier_equals_transformers(kind, flags, hugging_face, convert):
    folder, theirs = hugging_face(kind)
    classifier = read(convert("roberta", folder, *flags))
    tokens = documents([64, 23, 3], theirs.config.vocab_size)
    visible = tokens.ne(1)
    out = theirs(theirs_of(kind, tokens), visible.long(), output_hidden_states=True)
    logits, _ = classifier.model.predict(HEAD, tokens)
    assert (logits - out.logits).abs().max() < 1e-4
    states = classifier.model(tokens, features_only=True)[0]
    assert (states - out.hidden_states[-1])[visible].abs().max() < 1e-4
    assert classifier.labels == ["bad", "so so", "good"]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_masked_lm_head_is_converted(kind, hugging_face, convert):
    folder, theirs = hugging_face(kind, "ForMaskedLM")
    converted = convert("roberta", folder, *FULL)
    checkpoint = torch.load(converted / "model.pt")
    model = _load(checkpoint)
    tokens = documents([50, 9], theirs.config.vocab_size)
    logits = theirs(theirs_of(kind, tokens), tokens.ne(1).long()).logits
    if kind == "camembert":
        logits = logits[:, :, [5, 1, 6, 3, 4, 0, 2, *range(7, logits.size(2))]]
    assert (model(tokens)[0] - logits)[tokens.ne(1)].abs().max() < 1e-4


@pytest.mark.parametrize("activation", ["relu", "gelu_new"])
def test_masked_lm_head_of_another_activation_is_left_out(activation, hugging_face, convert):
    """Check that of transformers, whose output always has gelu, and that the layers are converted."""
    folder, theirs = hugging_face("roberta", "ForMaskedLM", hidden_act=activation)
    converted = convert("roberta", folder, *FULL)
    model, tokens = _load(torch.load(converted / "model.pt")), documents([50, 9], theirs.config.vocab_size)
    with torch.no_grad():
        expected = theirs(tokens, tokens.ne(1).long(), output_hidden_states=True).hidden_states[-1]
        assert (model(tokens, features_only=True)[0] - expected)[tokens.ne(1)].abs().max() < 1e-4
    done = {part["kind"]: part for part in json.loads((converted / "conversion.json").read_text())["tensors"]}
    assert "its activation is gelu, ours would be " in done["left out"]["what"]
    assert (
        "encoder.lm_head.dense.weight" in done["left out"]["tensors"]
        and "encoder.lm_head.bias" in done["new"]["tensors"]
    )


@pytest.mark.parametrize("kind", ["camembert", "xlm-roberta"])
def test_mask_follows_the_pieces_if_the_embedding_has_more_rows(kind, hugging_face, convert, capfd):
    """Check rows of added tokens or padding, with the row of ``<mask>`` in transformers' tokenizers."""
    row = 40 + (4 if kind == "camembert" else 1)
    folder, theirs = hugging_face(kind, vocab_size=48)
    classifier = read(convert("roberta", folder, *FULL))
    assert classifier.dictionary.index("<mask>") == row and len(classifier.dictionary) == 48
    assert f"has {47 - row} rows after <mask>, which no text is encoded to" in capfd.readouterr().err
    tokens = torch.tensor([[0, 9, row, 11, 2]])
    out = theirs(theirs_of(kind, tokens), tokens.ne(1).long())
    assert (classifier.model.predict(HEAD, tokens)[0] - out.logits).abs().max() < 1e-4


def _load(checkpoint):
    from argparse import Namespace

    from pyramidion_fairseq.interop.dictionary_files import make_dictionary
    from pyramidion_fairseq.models.roberta import LSGRobertaModel

    symbols = checkpoint["extra_state"]["vocabularies"]["source"].split("\n")
    options = Namespace(**{**checkpoint["cfg"]["model"], "load_checkpoint_heads": True})
    model = LSGRobertaModel.build_model(options, Namespace(source_dictionary=make_dictionary(symbols)))
    state = dict(checkpoint["model"])
    model.upgrade_state_dict_named(state, "")
    torch.nn.Module.load_state_dict(model, state, strict=True)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_conversion_report_lists_every_tensor(kind, hugging_face, convert):
    folder, theirs = hugging_face(kind)
    converted = convert("roberta", folder, "--max-positions", 200, "--pooling-schedule", "1:64,2:16")
    parts = json.loads((converted / "conversion.json").read_text())["tensors"]
    state = torch.load(converted / "model.pt")["model"]
    named = [name for part in parts if part["kind"] != "left out" for name in part["tensors"]]
    assert set(named) == set(state)
    kinds = {part["kind"]: part for part in parts}
    assert kinds["copied"]["what"].endswith("bit for bit") and "64 positions repeated to 200" in kinds["tiled"]["what"]
    assert ("moved" in kinds) == (kind == "camembert")
    original = theirs.state_dict()
    for layer in range(3):
        ours = state[f"encoder.sentence_encoder.layers.{layer}.fc1.weight"]
        assert torch.equal(ours, original[f"roberta.encoder.layer.{layer}.intermediate.dense.weight"])


@torch.no_grad()
def test_global_tokens_equal_those_of_the_published_converter(hugging_face, convert):
    """Check that ``<s>`` comes first, then ``<mask>`` with every 64th position, all with the token type."""
    folder, theirs = hugging_face("roberta", max_position_embeddings=514)
    classifier = read(convert("roberta", folder, "--lsg-global-tokens", 9, "--max-positions", 600))
    encoder, embeddings = classifier.model.encoder.sentence_encoder, theirs.roberta.embeddings
    mask = classifier.dictionary.index("<mask>")
    places = [0, 64, 128, 192, 256, 320, 384, 448, 1]
    positions = embeddings.position_embeddings.weight[2:] + embeddings.token_type_embeddings.weight[0]
    expected = positions[places] + embeddings.word_embeddings.weight[[0, *[mask] * 8]]
    assert torch.equal(encoder.global_embeddings.weight[:9], expected)
    tokens = documents([20], theirs.config.vocab_size)
    first = encoder.embed(tokens, None, None)
    norm = embeddings.LayerNorm
    assert torch.allclose(first[0, :9], norm(expected), atol=1e-5)
    assert torch.allclose(first[0, 9:], embeddings(tokens)[0], atol=1e-5)
    last = run_layers(encoder, tokens)
    assert torch.allclose(
        classifier.model(tokens, features_only=True)[0][0], torch.cat([last[:1], last[10:]]), atol=1e-5
    )


def run_layers(encoder, tokens):
    """Return the last layer's vectors of one document, those of global tokens first."""
    x = encoder.embed(tokens, None, None)
    for layer in encoder.layers:
        x = call_layer(layer, x, None, None)[0]
    return x[0]


def test_head_of_one_class_predicts_a_number(hugging_face, convert):
    folder, theirs = hugging_face("roberta", num_labels=1, id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
    assert "problem_type" not in json.loads((folder / "config.json").read_text())
    classifier = read(convert("roberta", folder, *FULL))
    document = Document.from_text("hello wor hell")
    tokens = torch.tensor([classifier.read(document).tokens])
    (prediction,) = classifier.classify([document])
    assert classifier.labels is None and prediction.label is None
    assert prediction.value == pytest.approx(theirs(tokens).logits.item(), abs=1e-4)


@pytest.mark.parametrize("kind, what", [("multi_label_classification", "labels"), ("regression", "numbers")])
def test_head_for_several_labels_or_numbers_is_left_out(kind, what, hugging_face, convert):
    folder, _ = hugging_face("roberta", problem_type=kind)
    converted = convert("roberta", folder, *FULL)
    assert f"it gives a document several {what}, ours gives it one" in (converted / "conversion.json").read_text()
    with pytest.raises(PyramidionError, match="no classification head: train one"):
        read(converted)


def test_tokenizer_with_add_prefix_space_is_warned_about(hugging_face, convert, tmp_path, capsys):
    folder, _ = hugging_face("roberta")
    shutil.copytree(folder, tmp_path / "spaced")
    (tmp_path / "spaced" / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    for given, told in ((folder, False), (tmp_path / "spaced", True)):
        convert("roberta", given, *FULL)
        assert ("inserts a space before each text (add_prefix_space)" in capsys.readouterr().err) is told


def test_tokens_of_texts_and_pairs_equal_transformers(transformers, hugging_face, convert):
    folder, _ = hugging_face("roberta")
    classifier = read(convert("roberta", folder, *FULL))
    theirs = transformers.RobertaTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    pair = Document.from_text("hello wor hell"), Document.from_text("or wor")
    assert classifier.read(pair[0]).tokens == theirs(pair[0].sentences[0])["input_ids"]
    expected = theirs(pair[0].sentences[0], pair[1].sentences[0])["input_ids"]
    assert classifier.read(pair).tokens == expected


def test_camembert_pieces_get_the_rows_of_their_embedding(hugging_face, convert):
    folder, _ = hugging_face("camembert")
    classifier = read(convert("roberta", folder, *FULL))
    reading = classifier.read(Document.from_text("alpha omicron"))
    processor = classifier.tokenizer.processor
    assert reading.tokens == [0, *(piece + 4 for piece in processor.encode("alpha omicron")), 2]
    assert classifier.dictionary.symbols[:7] == ["<s>", "<pad>", "</s>", "<unk>", *(
        f"<{name}>NOTUSED" for name in ("unk", "s", "/s"))]  # fmt: skip


@pytest.mark.parametrize("old", [False, True])
@torch.no_grad()
def test_converted_fairseq_roberta_gives_the_same_logits(old, convert, tmp_path, symbols, rows):
    from argparse import Namespace

    from pyramidion_fairseq.interop import dictionary_files

    theirs = build_stock(words=len(symbols))
    state = theirs.state_dict()
    if old:
        state = {k.replace("encoder.", "decoder.", 1).replace("layernorm_emb", "emb_layer_norm.X"): v
                 for k, v in state.items()}  # fmt: skip
        state = {k.replace("emb_layer_norm.Xedding", "emb_layer_norm"): v for k, v in state.items()}
    args = Namespace(arch="roberta_base", **{k: v for k, v in vars(theirs.args).items() if k != "arch"})
    torch.save(old_checkpoint(args, state), tmp_path / "model.pt")
    dictionary_files.write_dictionary(symbols[:-1], tmp_path / "dict.txt")
    write_bpe(tmp_path, rows)
    classifier = read(convert("roberta", tmp_path / "model.pt", *FULL))
    tokens = documents([50, 9], len(symbols))
    assert (
        classifier.model.predict(HEAD, tokens)[0] - theirs(tokens, classification_head_name=HEAD)[0]
    ).abs().max() < 1e-4
    assert classifier.labels == ["class 0", "class 1", "class 2"]
    again = read(convert("roberta", tmp_path / "model.pt", "--max-positions", 200))
    twice = convert("roberta", tmp_path / "roberta_1" / "model.pt")
    first, second = (torch.load(folder / "model.pt")["model"] for folder in (tmp_path / "roberta_1", twice))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert again.model.max_positions() == 200


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "bert"}, "not a RoBERTa, CamemBERT or XLM-R: model_type is 'bert'"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps=1e-12: fairseq has 1e-5"),
        ({"pad_token_id": 0}, "pad_token_id=0: fairseq has 1"),
        ({"hidden_act": "silu"}, "hidden_act='silu'"),
        ({"position_embedding_type": "relative_key"}, "relative positions"),
    ],
)
def test_unsupported_configurations_are_refused(change, message, hugging_face, convert, tmp_path, capsys):
    folder, _ = hugging_face("roberta")
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(SystemExit) as error:
        convert("roberta", tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.glob("roberta_*"))


@pytest.mark.parametrize("damage", ["missing", "unknown", "no vocabulary"])
def test_missing_or_unknown_tensors_and_missing_vocabularies_are_refused(damage, hugging_face, convert, tmp_path):
    import safetensors.torch

    folder, _ = hugging_face("xlm-roberta")
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = safetensors.torch.load_file(str(tmp_path / "model.safetensors"))
    if damage == "missing":
        del weights["roberta.encoder.layer.1.output.dense.bias"]
    if damage == "unknown":
        weights["roberta.encoder.layer.1.adapter.weight"] = torch.ones(2)
    if damage == "no vocabulary":
        (tmp_path / "sentencepiece.bpe.model").unlink()
    safetensors.torch.save_file(weights, str(tmp_path / "model.safetensors"))
    with pytest.raises(SystemExit) as error:
        convert("roberta", tmp_path)
    message = {"missing": "layers.1.fc2.bias is missing", "unknown": "adapter.weight is unknown"}
    assert message.get(damage, "has no vocabulary") in str(error.value)
    assert not list(tmp_path.glob("roberta_*"))


def test_token_type_embedding_is_added_to_the_positions(hugging_face, convert):
    folder, theirs = hugging_face("roberta")
    converted = convert("roberta", folder, *FULL)
    parts = {part["kind"]: part for part in json.loads((converted / "conversion.json").read_text())["tensors"]}
    embeddings = theirs.roberta.embeddings
    expected = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight
    positions = torch.load(converted / "model.pt")["model"]["encoder.sentence_encoder.embed_positions.weight"]
    assert torch.equal(positions[2:], expected[2:].detach()) and "summed" in parts


def test_bin_file_converts_like_safetensors(hugging_face, convert, tmp_path):
    folder, theirs = hugging_face("roberta")
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    first, second = (
        torch.load(convert("roberta", given, *FULL) / "model.pt")["model"] for given in (folder, tmp_path)
    )
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_line_breaks_in_names_of_classes_become_spaces(hugging_face, convert, tmp_path):
    given = tmp_path / "given"
    shutil.copytree(hugging_face("roberta")[0], given)
    config = json.loads((given / "config.json").read_text())
    config["id2label"] = {"0": "of two\nlines", "1": "b\r\nb", "2": "c"}
    (given / "config.json").write_text(json.dumps(config))
    folder = convert("roberta", given)
    assert load_classifier(str(folder), device="cpu").labels == ["of two lines", "b b", "c"]


def test_added_tokens_are_warned_about(hugging_face, convert, rows, tmp_path, capsys):
    """Check that unused rows and ``<mask>`` do not count as added tokens."""
    given, theirs = hugging_face("roberta")
    convert("roberta", given)
    assert "added to the tokenizer" not in capsys.readouterr().err
    larger = copy.deepcopy(theirs)
    larger.resize_token_embeddings(len(rows) + 2, mean_resizing=False)
    larger.save_pretrained(tmp_path / "given")
    write_bpe(tmp_path / "given", {**rows, "<person>": len(rows)})
    folder = convert("roberta", tmp_path / "given")
    told = "1 token was added to the tokenizer (<person>), but fairseq's never produces them"
    assert told in capsys.readouterr().err
    assert (folder / "dict.txt").read_text().splitlines()[-2:] == ["<person> 1", f"unused{len(rows) + 1} 1"]
