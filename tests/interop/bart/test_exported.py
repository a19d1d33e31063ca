"""Tests of exported directories; scripts/versions.py runs them with every transformers that setup.py allows."""

import copy
import json
import random
import shutil

import pytest
import torch

from pyramidion_fairseq.cli.convert import main
from pyramidion_fairseq.interop import byte_level, dictionary_files
from pyramidion_fairseq.models import PyramidionModel
from tests.helpers.bart import MERGES, SHAPE, documents, load, randomise, write_bpe, write_stock

FLAGS = ["--max-source-positions", "256", "--lsg-block-size", "16", "--lsg-sparse-block-size", "16"]
FLAGS += ["--pooling-schedule", "2:40,3:20"]
GENERATION = ["--max-len-b", "20", "--min-len", "3"]


def load_exported(transformers, folder, **options):
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(str(folder), trust_remote_code=True, **options).eval()


def load_tokenizer(transformers, folder):
    return transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=True)


@pytest.fixture(scope="module")
def folders(hugging_face, tmp_path_factory):
    """Return (our checkpoint's folder, the directory exported from it)."""
    ours, exported = (tmp_path_factory.mktemp("exported") / name for name in ("ours", "theirs"))
    main(["bart", str(hugging_face[0]), str(ours), *FLAGS])
    main(["huggingface", str(ours / "model.pt"), str(exported), *GENERATION])
    return ours, exported


@pytest.fixture
def model(transformers, folders):
    return load_exported(transformers, folders[1])


@pytest.fixture
def inputs(rows):
    tokens = documents([200, 90, 7], len(rows))
    return {"input_ids": tokens, "attention_mask": tokens.ne(1).long()}


def test_modeling_file_imports_every_other_file(transformers, folders):
    """Check for releases before 2026, which copy the files that it imports, but look for all that these import."""
    from transformers.dynamic_module_utils import get_relative_imports

    entry = folders[1] / "modeling_pyramidion.py"
    files = {path.stem for path in folders[1].glob("*.py")} - {entry.stem}
    assert len(files) > 20
    assert set(get_relative_imports(entry)) == files
    assert get_relative_imports(folders[1] / "configuration_pyramidion.py") == []


@pytest.mark.parametrize("part", ["whole", "inner"])
def test_return_dict_false_gives_the_same_values_as_a_tuple(model, inputs, part):
    model = model if part == "whole" else model.model
    summaries = documents([9, 9, 5], 20, seed=1)
    with torch.no_grad():
        out = model(**inputs, decoder_input_ids=summaries, output_hidden_states=True, use_cache=False)
        found = model(
            **inputs, decoder_input_ids=summaries, output_hidden_states=True, use_cache=False, return_dict=False
        )
    assert isinstance(found, tuple)
    for ours, theirs in zip(found, out.to_tuple()):
        torch.testing.assert_close(ours, theirs)
    assert len(found) == len(out.to_tuple()) == 4  # logits or states, those of decoder and encoder, its output


def test_encoder_outputs_may_be_a_tuple(model, inputs):
    summaries = documents([9, 9, 5], 20, seed=1)
    for hidden in (False, True):
        with torch.no_grad():
            encoded = model.get_encoder()(**inputs, return_dict=False, output_hidden_states=hidden)
            found = model(encoder_outputs=encoded, decoder_input_ids=summaries, output_hidden_states=hidden)
            expected = model(**inputs, decoder_input_ids=summaries, output_hidden_states=hidden)
        assert len(encoded) == 2 + hidden
        torch.testing.assert_close(found.logits, expected.logits)
        assert (found.encoder_hidden_states is None) == (not hidden)


def test_decoder_accepts_embeddings_instead_of_ids(model, inputs):
    summaries = documents([9, 9, 5], 20, seed=1)
    embedded = model.get_input_embeddings()(summaries)
    with torch.no_grad():
        expected = model(**inputs, decoder_input_ids=summaries)
        found = model(**inputs, decoder_inputs_embeds=embedded)
    torch.testing.assert_close(found.logits, expected.logits)


def test_invalid_inputs_of_the_encoder_are_refused_with_a_clear_error(model, inputs):
    first = torch.tensor([[2]] * 3)
    encoded = model.get_encoder()(**inputs, output_hidden_states=True)
    for wrong in ((), (encoded.last_hidden_state,), (encoded.last_hidden_state, encoded.hidden_states)):
        with pytest.raises(ValueError, match="must be the encoder's own output"):
            model(encoder_outputs=wrong, decoder_input_ids=first)
    for call in (model.generate, model):
        with pytest.raises(ValueError, match="the encoder needs input_ids, not inputs_embeds"):
            call(inputs_embeds=torch.zeros(3, 5, 32), decoder_input_ids=first)
    with pytest.raises(ValueError, match=r"input_ids of the shape \(3, 0\) have no tokens: give at least </s>"):
        model.generate(first[:, :0])


def test_encoder_hidden_states_equal_ours(model, folders, inputs):
    summaries = documents([9, 9, 5], 20, seed=1)
    with torch.no_grad():
        out = model(**inputs, decoder_input_ids=summaries, output_hidden_states=True)
        expected = load(folders[0]).encoder(inputs["input_ids"], None, return_all_hiddens=True)["encoder_states"]
        written = model.generate(**inputs, output_hidden_states=True, return_dict_in_generate=True)
    assert [tuple(state.shape) for state in out.encoder_hidden_states] == [
        (3, 200, 32), (3, 200, 32), (3, 40, 32), (3, 20, 32)
    ]  # fmt: skip
    for number, length in enumerate([200, 200, 40, 20]):
        theirs, ours = out.encoder_hidden_states[number], expected[number].transpose(0, 1)
        assert theirs.size(1) == ours.size(1) == length
        for row, tokens in enumerate((200, 90, 7)):  # states behind a document's end are undefined
            read = min(tokens, length)
            torch.testing.assert_close(theirs[row, :read], ours[row, :read], rtol=0, atol=1e-4)
    assert len(written.encoder_hidden_states) == 4
    assert model(**inputs, decoder_input_ids=summaries).encoder_hidden_states is None
    model.config.output_hidden_states = True
    assert len(model(**inputs, decoder_input_ids=summaries).encoder_hidden_states) == 4


def test_overlong_inputs_are_refused_with_both_lengths(model, inputs):
    summaries = torch.tensor([[2, 5, 6]])
    with pytest.raises(ValueError, match="the document has 300 tokens, but the model reads at most 256: cut it"):
        model(input_ids=documents([300], 20), decoder_input_ids=summaries)
    with pytest.raises(ValueError, match="the document has 300 tokens, but the model reads at most 256: cut it"):
        model.generate(documents([300, 20], 20))
    with pytest.raises(ValueError, match="the summary has 65 tokens, but the model reads at most 64: cut it"):
        model(**inputs, decoder_input_ids=documents([65] * 3, 20))


def test_padding_does_not_count_towards_the_maximum_length(model):
    tokens, summaries = documents([256, 30], 20), torch.tensor([[2, 5, 6], [2, 5, 7]])
    padded = torch.cat([torch.ones(2, 100, dtype=torch.long), tokens], dim=1)
    with torch.no_grad():
        expected, found = (model(input_ids=x, decoder_input_ids=summaries).logits for x in (tokens, padded))
    torch.testing.assert_close(found, expected)


def test_saved_copies_of_model_and_tokenizer_give_the_same_outputs(transformers, model, folders, inputs, tmp_path):
    """Save twice, so that the files come from the first copy; each time with the tokenizer."""
    expected, source = model.generate(**inputs).tolist(), model
    text = "hello world, héllo"
    ids = load_tokenizer(transformers, folders[1])(text)["input_ids"]
    for name in ("once", "twice"):
        source.save_pretrained(tmp_path / name)
        load_tokenizer(transformers, folders[1]).save_pretrained(tmp_path / name)
        source = load_exported(transformers, tmp_path / name)
        assert source.generate(**inputs).tolist() == expected
        assert load_tokenizer(transformers, tmp_path / name)(text)["input_ids"] == ids
    assert {path.name for path in folders[1].glob("*.py")} == {path.name for path in (tmp_path / "twice").glob("*.py")}


def test_models_in_folders_of_any_and_of_similar_names_load_side_by_side(transformers, folders, tmp_path, inputs):
    """Check that all models generate after the same code was loaded from every folder."""
    names = ["my model", "my_model", "mod\u00e8le", "\u6a21\u578b"]
    loaded = [load_exported(transformers, shutil.copytree(folders[1], tmp_path / name)) for name in names]
    written = [model.generate(**inputs).tolist() for model in loaded]
    assert written == [load_exported(transformers, folders[1]).generate(**inputs).tolist()] * len(names)


def test_trainer_averages_the_losses_of_accumulated_batches(transformers, model, tmp_path):
    """Check that four batches of one document train like one of four; without accelerate, the attribute alone."""
    assert model.accepts_loss_kwargs is False
    pytest.importorskip("accelerate")
    data = [{"input_ids": documents([40], 20, n)[0], "labels": documents([8], 20, 9 + n)[0]} for n in range(4)]
    more = {"report_to": [], "use_cpu": True, "save_strategy": "no", "max_steps": 1, "optim": "sgd"}
    more.update(learning_rate=1e-3, lr_scheduler_type="constant", max_grad_norm=0)
    trained = []
    for batch, batches in ((4, 1), (1, 4)):
        pupil = copy.deepcopy(model)
        pupil.train = lambda mode=True, pupil=pupil: pupil  # no dropout
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": batches}
        arguments = transformers.TrainingArguments(output_dir=str(tmp_path), **more, **sizes)
        transformers.Trainer(model=pupil, args=arguments, train_dataset=data).train()
        trained.append(pupil.model.decoder.layers[0].fc1.weight - model.model.decoder.layers[0].fc1.weight)
    assert trained[0].abs().max() > 0
    torch.testing.assert_close(trained[1], trained[0], rtol=1e-2, atol=1e-6)


def test_dropout_options_apply_to_the_encoder_and_the_decoder(transformers, folders):
    names = ("dropout", "attention_dropout", "activation_dropout")
    model = load_exported(transformers, folders[1], **dict(zip(names, (0.25, 0.5, 0.75))))
    layers = [layer for side in (model.model.encoder, model.model.decoder) for layer in side.layers]
    found = {(layer.dropout, layer.self_attn.dropout, layer.activation_dropout) for layer in layers}
    assert found == {(0.25, 0.5, 0.75)}


def test_dtype_of_weights_and_config_is_the_same(transformers, folders, tmp_path, inputs):
    """Check weights and configuration, whatever name the release uses there; also after saving."""
    model = load_exported(transformers, folders[1], torch_dtype=torch.bfloat16)
    assert model.dtype == model.config.dtype == torch.bfloat16
    assert model.generate(**inputs).size(0) == 3
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert {saved[name] for name in ("dtype", "torch_dtype") if name in saved} == {"bfloat16"}
    again = load_exported(transformers, tmp_path, torch_dtype="auto")
    assert again.dtype == again.config.dtype == torch.bfloat16
    assert load_exported(transformers, folders[1], torch_dtype="auto").dtype == torch.float32


@pytest.mark.parametrize("changed", [{}, {"decoder_positions": True}, {"pegasus_positions": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_works_without_learned_positions(
    transformers, tiny_model, random_tokens, tmp_path, changed, dtype
):
    """Check models like the paper's and PEGASUS, with checkpoints in half precision and in float32."""
    ours = tiny_model(pooling_schedule="", **{**changed, "decoder_positions": bool(changed)}).float()
    ours.encoder.dictionary.save(str(tmp_path / "dict.txt"))
    options = {"cfg": {"model": {"_name": "pooled_transformer", **vars(ours.options)}}}
    tokens, summaries = random_tokens([60, 20]), torch.tensor([[2, 5, 6, 7], [2, 9, 9, 8]])
    with torch.no_grad():
        expected = ours(tokens, None, summaries)[0]
        for name, trained in (("half", dtype), ("whole", torch.float32)):
            torch.save({**options, "model": ours.to(trained).state_dict()}, tmp_path / "checkpoint.pt")
            main(["huggingface", str(tmp_path / "checkpoint.pt"), str(tmp_path / name)])
            theirs = load_exported(transformers, tmp_path / name, torch_dtype=dtype)
            logits = theirs(tokens, tokens.ne(1).long(), decoder_input_ids=summaries).logits
            assert logits.dtype == dtype
            torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.1)
            assert theirs.generate(tokens, max_length=8, min_length=2).size(0) == 2
            theirs.float()
            assert theirs(tokens, decoder_input_ids=summaries).logits.dtype == torch.float32


#: Published rows of the embedding after the tokens of the BPE; bart.base is filled up to a round number.
LAYOUTS = {
    "bart.base": [*(f"madeupword{number:04}" for number in range(40)), "<mask>"],
    "bart.large": ["madeupword0000", "madeupword0001", "madeupword0002", "<mask>"],
    "bart.large.mnli": ["madeupword0000", "madeupword0001", "madeupword0002", "<mask>"],
    "bart.large.cnn": ["madeupword0000", "madeupword0001", "madeupword0002"],
    "bart.large.xsum": ["madeupword0000", "madeupword0001", "madeupword0002"],
}


def write_published(transformers, folder, name, form):
    """Write a small BART in the layout of a published one: (what to convert, rows of its embedding)."""
    tokens = list(byte_level.numbers_of(MERGES))
    random.Random(0).shuffle(tokens)
    rows = {token: row for row, token in enumerate([*dictionary_files.SPECIALS, *tokens, *LAYOUTS[name]])}
    if form == "fairseq":
        symbols = byte_level.symbols_from_rows(rows, len(rows), byte_level.Bpe(byte_level.numbers_of(MERGES), MERGES))
        heads = {"classification_heads.mnli.dense.weight": torch.zeros(3, 3)} if name.endswith("mnli") else {}
        return write_stock(folder, symbols, **heads)[0], len(rows)
    config = transformers.BartConfig(vocab_size=len(rows), **SHAPE)
    kind = "SequenceClassification" if name.endswith("mnli") else "ConditionalGeneration"
    randomise(getattr(transformers, f"BartFor{kind}")(config)).save_pretrained(folder)
    write_bpe(folder, {**rows, "<mask>": len(rows) - ("<mask>" in rows)})  # all of their vocabularies have one
    return folder, len(rows)


@pytest.mark.parametrize("form", ["fairseq", "transformers"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_exported_tokenizer_and_embedding_have_the_same_size(transformers, convert, tmp_path, name, form):
    (tmp_path / "published").mkdir()
    path, rows = write_published(transformers, tmp_path / "published", name, form)
    ours = convert("bart", path, *FLAGS)
    folder = convert("huggingface", ours / "model.pt", *GENERATION)
    tokenizer, model = load_tokenizer(transformers, folder), load_exported(transformers, folder)
    assert len(tokenizer) == model.get_input_embeddings().num_embeddings == model.config.vocab_size == rows
    assert (tokenizer.mask_token_id == rows - 1) if "<mask>" in LAYOUTS[name] else (tokenizer.mask_token is None)
    inputs = tokenizer(["hello <mask> world", "hello"], padding=True, return_tensors="pt")
    expected = PyramidionModel.from_pretrained(str(ours)).encode("hello").tolist()
    assert tokenizer("hello")["input_ids"] == [0, *expected]
    assert inputs["input_ids"].max() < rows and model.generate(**inputs).size(0) == 2
