"""Tests of pyramidion-convert bart: fairseq's own BART, vocabularies, refusals, and fairseq with the result."""

import copy
import errno
import json
import math
import pickle
import re
import shutil
from argparse import Namespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.data.encoders.gpt2_bpe import GPT2BPE

from pyramidion_fairseq import PyramidionModel
from pyramidion_fairseq.checkpoints import load_checkpoint
from pyramidion_fairseq.cli.convert import main
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import load_summarizer
from pyramidion_fairseq.interop import byte_level, dictionary_files
from pyramidion_fairseq.interop.bart.convert import last_layers
from pyramidion_fairseq.interop.bart.names import from_hugging_face, to_hugging_face
from pyramidion_fairseq.interop.bart.options import from_config, from_fairseq
from pyramidion_fairseq.interop.subwords import find_subwords
from pyramidion_fairseq.models.architectures import fields_of
from tests.helpers.bart import MERGES, SHAPE, documents, load
from tests.helpers.corpora import write_split
from tests.helpers.paths import ROOT

LONG = ["--max-source-positions", 256, "--lsg-block-size", 16, "--lsg-sparse-block-size", 16]


def test_converted_model_equals_fairseqs_own_bart(stock, convert, symbols):
    path, bart = stock
    model = load(convert("bart", path, "--attention", "full", "--max-source-positions", 64))
    tokens, summaries = documents([60, 23, 1], len(symbols)), documents([9, 9, 5], len(symbols), seed=1)
    with torch.no_grad():
        expected = bart.encoder(tokens, None)["encoder_out"][0][:, 0]
        torch.testing.assert_close(model.encoder(tokens, None)["encoder_out"][0][:, 0], expected, rtol=0, atol=1e-5)
        expected = bart(tokens, None, summaries)[0]
        torch.testing.assert_close(model(tokens, None, summaries)[0], expected, rtol=0, atol=1e-5)


def test_documents_of_at_most_two_blocks_give_the_logits_of_the_original(stock, convert, symbols):
    """Check LSG attention and a pooling that keep them whole; global tokens, which differ, are removed here."""
    path, bart = stock
    model = load(convert("bart", path, *LONG, "--pool-lengths", "32"))
    model.encoder.num_globals = 0
    for layer in model.encoder.layers:
        layer.self_attn.num_global_tokens = 0
    tokens, summaries = documents([32, 20], len(symbols)), documents([9, 9], len(symbols), seed=1)
    with torch.no_grad():
        expected = bart(tokens, None, summaries)[0]
        torch.testing.assert_close(model(tokens, None, summaries)[0], expected, rtol=0, atol=1e-5)


def test_conversion_report_lists_every_tensor(stock, convert):
    folder = convert("bart", stock[0], *LONG, "--pool-lengths", "40,20")
    report = json.loads((folder / "conversion.json").read_text())
    state = torch.load(folder / "model.pt")["model"]
    kinds = {name: part["kind"] for part in report["tensors"] for name in part["tensors"]}
    assert kinds.keys() == state.keys()
    assert kinds["encoder.embed_positions.weight"] == "tiled"
    new = {name for name, kind in kinds.items() if kind == "new"}
    scorers = {f"encoder.poolings.{layer}.scorer.proj.{what}" for layer in (2, 3) for what in ("weight", "bias")}
    assert new == scorers | {"encoder.global_embeddings.weight"}
    bart = stock[1].state_dict()
    assert all(torch.equal(state[name], bart[name]) for name, kind in kinds.items() if kind == "copied")
    assert report["options"]["pooling_schedule"] == "2:40,3:20"


def test_conversion_with_a_pointer_adds_a_new_gate_that_export_refuses(stock, convert, tmp_path):
    """Check that the gate is reported as new, and that no directory of transformers can hold it."""
    folder = convert("bart", stock[0], "--pointer", "--pointer-bias", -3)
    report = json.loads((folder / "conversion.json").read_text())
    (new,) = [change for change in report["tensors"] if "decoder.pointer.gate.bias" in change["tensors"]]
    assert (new["kind"], len(new["tensors"])) == ("new", 2)
    assert load(folder).decoder.pointer.gate.bias.tolist() == [0.0, -3.0, -3.0]
    with pytest.raises(SystemExit, match=r"BART has no pointer, which this model has \(--pointer\)$"):
        main(["huggingface", str(folder / "model.pt"), str(tmp_path / "exported")])


def test_conversion_keeps_half_precision(stock, convert, tmp_path, symbols):
    checkpoint = torch.load(stock[0], weights_only=False)
    checkpoint["model"] = {name: tensor.half() for name, tensor in checkpoint["model"].items()}
    torch.save(checkpoint, tmp_path / "half.pt")
    (tmp_path / "dict.txt").write_bytes((stock[0].parent / "dict.txt").read_bytes())
    state = torch.load(convert("bart", tmp_path / "half.pt", *LONG) / "model.pt")["model"]
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}


def test_converted_checkpoint_can_be_lengthened_again(stock, convert):
    first = convert("bart", stock[0], *LONG)
    again = convert("bart", first / "model.pt", "--max-source-positions", 500, "--pooling-schedule", "3:30")
    a, b = (torch.load(folder / "model.pt") for folder in (first, again))
    assert b["cfg"]["model"]["lsg_block_size"] == 16 and b["cfg"]["model"]["pooling_schedule"] == "3:30"
    name = "encoder.embed_positions.weight"
    assert torch.equal(b["model"][name][:258], a["model"][name]) and b["model"][name].size(0) == 502


def test_last_layers_puts_pool_lengths_after_the_last_layers():
    assert last_layers([2048, 512], 12) == "11:2048,12:512"
    with pytest.raises(PyramidionError, match="has 3 lengths, but the encoder has 2 layers"):
        last_layers([3, 2, 1], 2)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--encoder-layers", "6"], "encoder_layers of the pretrained model is 3, and cannot become 6"),
        (["--pool-lengths", "8", "--pooling-schedule", "3:8"], "cannot be used together: give only one"),
        (["--pool-lengths", "8,x"], "must be integers separated by commas"),
        (["--pool-lengths", "8,16"], "lengths must descend"),
        (["--max-source-positions", "256", "--pool-lengths", "512"], "at most 256"),
        (["--bpe", "/"], "no encoder.json"),
        (["--dictionary", "/nowhere"], "nowhere"),
    ],
)
def test_invalid_options_are_refused_with_a_one_line_error(stock, tmp_path, flags, message):
    with pytest.raises(SystemExit) as stop:
        main(["bart", str(stock[0]), str(tmp_path / "out"), *flags])
    assert message in str(stop.value) and "\n" not in str(stop.value) and not (tmp_path / "out").exists()


def test_other_checkpoints_and_damaged_tensors_are_refused(stock, tmp_path):
    def refused(message, change):
        checkpoint = torch.load(stock[0], weights_only=False)
        change(checkpoint)
        (tmp_path / "dict.txt").write_bytes((stock[0].parent / "dict.txt").read_bytes())
        torch.save(checkpoint, tmp_path / "model.pt")
        with pytest.raises(SystemExit, match=message):
            main(["bart", str(tmp_path / "model.pt"), str(tmp_path / "out")])
        assert not (tmp_path / "out").exists()

    refused("architecture is transformer", lambda c: setattr(c["args"], "arch", "transformer"))
    refused("encoder_normalize_before=True", lambda c: setattr(c["args"], "encoder_normalize_before", True))
    refused("fc1.bias is missing", lambda c: c["model"].pop("encoder.layers.0.fc1.bias"))
    refused("other.weight is unknown", lambda c: c["model"].update({"other.weight": torch.zeros(2)}))
    refused("not finite", lambda c: c["model"]["decoder.layers.0.fc1.bias"].fill_(float("nan")))
    refused(r"is \(3,\), not \(64,\)", lambda c: c["model"].update({"decoder.layers.0.fc1.bias": torch.zeros(3)}))


def test_existing_output_folder_is_not_overwritten(stock, tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(SystemExit, match="exists: remove it"):
        main(["bart", str(stock[0]), str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("existed", [False, True])
def test_full_disk_leaves_nothing_in_the_output_folder(stock, convert, tmp_path, monkeypatch, existed):
    """Check the conversion and the export, whose weights are written last."""
    converted = convert("bart", stock[0], *LONG)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    for kind, path, name in (
        ("bart", stock[0], "pyramidion_fairseq.interop.bart.convert.save_checkpoint"),
        ("huggingface", converted, "safetensors.torch.save_file"),
    ):
        folder = tmp_path / kind
        if existed:
            folder.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(name, full)
            with pytest.raises(SystemExit, match="No space left on device"):
                main([kind, str(path), str(folder)])
        assert folder.exists() == existed and (not existed or not list(folder.iterdir()))
        main([kind, str(path), str(folder)])
        assert (folder / "conversion.json").exists() or (folder / "model.safetensors").exists()


def test_from_config_maps_options_of_hugging_face():
    options = from_config({"model_type": "bart", "d_model": 16, "max_position_embeddings": 9, "scale_embedding": True})
    assert options["encoder_embed_dim"] == 16 and not options["no_scale_embedding"]
    for change, message in (
        ({"model_type": "t5"}, "model_type is 't5'"),
        ({"activation_function": "swish"}, "swish"),
        ({"normalize_before": True}, "pre-norm"),
        ({"static_position_embeddings": True}, "fixed positions"),
        ({"encoder_layerdrop": 0.1}, "layer drop"),
    ):
        with pytest.raises(PyramidionError, match=message):
            from_config({"model_type": "bart", "d_model": 16, "max_position_embeddings": 9, **change})


def test_from_fairseq_maps_options_of_bart_large():
    from fairseq.models.bart.model import bart_large_architecture

    args = Namespace(arch="bart_large", share_all_embeddings=True, layernorm_embedding=True)
    bart_large_architecture(args)
    options = from_fairseq(vars(args))
    assert (options["encoder_layers"], options["encoder_embed_dim"], options["activation_dropout"]) == (12, 1024, 0.0)


def test_parameter_names_convert_from_and_to_hugging_face():
    embedding = torch.ones(3, 2)
    state = {"model.shared.weight": embedding, "lm_head.weight": embedding, "model.encoder.x": torch.zeros(1)}
    ours = from_hugging_face({**state, "final_logits_bias": torch.zeros(1, 3)})
    assert torch.equal(ours["decoder.output_projection.weight"], embedding) and "encoder.x" in ours
    assert to_hugging_face(ours).keys() == {"model.shared.weight", "model.encoder.x"}
    for change, message in (
        ({"final_logits_bias": torch.ones(1, 3)}, "is not zero"),
        ({"lm_head.weight": torch.zeros(3, 2)}, "but they must be shared"),
    ):
        with pytest.raises(PyramidionError, match=message):
            from_hugging_face({**state, **change})


def test_dictionary_and_bpe_convert_to_rows_and_back(rows, symbols, tmp_path):
    bpe = byte_level.Bpe(byte_level.numbers_of(MERGES), MERGES)
    assert byte_level.rows_from_symbols(symbols, bpe) == rows
    dictionary_files.write_dictionary(symbols, tmp_path / "dict.txt")
    dictionary = Dictionary.load(str(tmp_path / "dict.txt"))
    assert dictionary.symbols == symbols == dictionary_files.read_dictionary(tmp_path / "dict.txt")
    byte_level.write_bpe(bpe, tmp_path)
    files = Namespace(gpt2_encoder_json=str(tmp_path / "encoder.json"), gpt2_vocab_bpe=str(tmp_path / "vocab.bpe"))
    encoded = GPT2BPE(files).encode("hello world")
    assert [bpe.numbers[token] for token in ("hello", "Ġwor", "l", "d")] == [int(n) for n in encoded.split()]
    assert [rows[token] for token in ("hello", "Ġwor", "l", "d")] == dictionary.encode_line(encoded).tolist()[:-1]


def test_numbers_of_gpt2_follow_from_its_merges():
    """Check numbers of GPT-2's published encoder.json: those of bytes, and those of its first merges."""
    numbers = byte_level.numbers_of(["Ġ t", "Ġ a", "h e"])
    known = {"!": 0, '"': 1, "A": 32, "~": 93, "¡": 94, "ÿ": 187, "Ā": 188, "Ġ": 220, "Ġt": 256, "Ġa": 257, "he": 258}
    assert {token: numbers[token] for token in known} == known and numbers["<|endoftext|>"] == 259


BART = {"model_type": "bart", "d_model": 32, "max_position_embeddings": 64}


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("config.json", [], "is no JSON object"),
        ("config.json", "nonsense", "is no JSON object"),
        ("config.json", {**BART, "d_model": None}, "cannot be converted: TypeError"),
        ("config.json", {"model_type": "bart"}, "cannot be read: 'd_model' is missing in it"),
        ("config.json", {**BART, "d_model": "x"}, "cannot be converted: TypeError"),
        ("config.json", {"pyramidion": 3}, "cannot be read: TypeError"),
        ("config.json", {**BART, **SHAPE, "encoder_layers": 10**9}, "--encoder-layers must be at least 0"),
        ("config.json", {**BART, **SHAPE, "encoder_layers": 900}, "encoder_layers is 900, but the file has 3"),
        ("config.json", {**BART, **SHAPE, "decoder_ffn_dim": 10**6}, "decoder_ffn_embed_dim is 1,000,000, but"),
        ("config.json", {**BART, **SHAPE, "decoder_attention_heads": -4}, "-attention-heads must be at least 1"),
        ("config.json", {**BART, "d_model": 0}, "--encoder-embed-dim must be at least 1"),
        ("tokenizer.json", {}, "cannot be read: 'model' is missing in it"),
        ("tokenizer.json", {"model": 3}, "cannot be read: AttributeError"),
        ("vocab.json", ["a"], "cannot be read"),
    ],
)
def test_malformed_directories_are_refused_with_a_one_line_error(hugging_face, tmp_path, name, content, message):
    folder = tmp_path / "given"
    shutil.copytree(hugging_face[0], folder)
    if name == "tokenizer.json":
        (folder / "merges.txt").unlink()
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(SystemExit) as stop:
        main(["bart", str(folder), str(tmp_path / "out")])
    assert message in stop.value.code and "\n" not in stop.value.code and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["bart", "huggingface", "published"])
@pytest.mark.parametrize(
    "checkpoint",
    [{"args": {"arch": "bart_base"}}, {"cfg": {"model": 3}, "model": {}}, {"model": 3, "cfg": {"model": {}}}, {}, []],
)
def test_malformed_checkpoints_are_refused_with_a_one_line_error(tmp_path, kind, checkpoint):
    torch.save(checkpoint, tmp_path / "model.pt")
    (tmp_path / "dict.txt").write_text("a 1\n")
    with pytest.raises(SystemExit) as stop:
        main([kind, str(tmp_path / "model.pt"), str(tmp_path / "out")])
    assert stop.value.code.startswith("pyramidion-convert: error: ") and "\n" not in stop.value.code
    assert not (tmp_path / "out").exists()


def test_symbols_from_rows_refuses_damaged_vocabularies():
    with pytest.raises(PyramidionError, match="rows 0 to 3"):
        byte_level.symbols_from_rows({"a": 0}, 5, None)
    special = {token: row for row, token in enumerate(dictionary_files.SPECIALS)}
    with pytest.raises(PyramidionError, match="0 symbols occur twice, or some have spaces"):
        byte_level.symbols_from_rows({**special, "a b": 4}, 5, None)
    with pytest.raises(PyramidionError, match="damaged: 'a' and 'b' both have row 4"):
        byte_level.symbols_from_rows({**special, "a": 4, "b": 4}, 6, None)


@pytest.mark.parametrize("kind", ["bart", "huggingface"])
def test_duplicate_symbol_of_a_dictionary_is_named_in_the_error(stock, convert, tmp_path, kind):
    """Check that the last row is not taken for that of <mask> and left out."""
    folder = convert("bart", stock[0], *LONG) if kind == "huggingface" else stock[0].parent
    lines = (folder / "dict.txt").read_text().splitlines()
    lines += [lines[3]] if kind == "bart" else []
    lines[5] = lines[3]
    (tmp_path / "dict.txt").write_text("\n".join(lines) + "\n")
    flags = ["--dictionary", str(tmp_path / "dict.txt")]
    with pytest.raises(SystemExit, match=r"dict\.txt has the symbol '\d+' twice, which fairseq cannot read$"):
        main([kind, str(folder / "model.pt"), str(tmp_path / "out"), *flags])
    assert not (tmp_path / "out").exists()


def test_missing_dictionary_is_refused_with_a_hint(stock, tmp_path):
    (tmp_path / "model.pt").write_bytes(stock[0].read_bytes())
    with pytest.raises(SystemExit, match=r"dict\.txt does not exist: give the path of the model's"):
        main(["bart", str(tmp_path / "model.pt"), str(tmp_path / "out")])


@pytest.mark.parametrize("kind", ["bart", "huggingface"])
def test_marker_that_is_not_in_the_dictionary_is_refused(stock, convert, tmp_path, kind):
    path, flags = stock[0], ["--summary-marker", "en_XX"]
    if kind == "huggingface":
        path, flags = convert("bart", path, *LONG) / "model.pt", []
        checkpoint = torch.load(path)
        checkpoint["cfg"]["model"]["summary_marker"] = "en_XX"
        torch.save(checkpoint, path)
    with pytest.raises(SystemExit, match=r"error: --summary-marker en_XX: the dictionary has no such symbol$"):
        main([kind, str(path), str(tmp_path / "out"), *flags])
    assert not (tmp_path / "out").exists()


def test_from_fairseq_takes_missing_options_from_our_architecture():
    found, expected = from_fairseq({"arch": "deeppyramidion"}), fields_of("deeppyramidion")
    assert expected["pooling_schedule"] and {name: found[name] for name in expected} == expected


def test_byte_level_bpe_of_another_model_is_refused(stock, convert, tmp_path):
    """Check a BPE that lacks tokens of the dictionary, in the conversion and beside the converted model."""
    merges = MERGES[:3]
    byte_level.write_bpe(byte_level.Bpe(byte_level.numbers_of(merges), merges), tmp_path)
    message = "belongs to another model: the byte-level BPE lacks 4 of the dictionary's 264 tokens, such as 2"
    with pytest.raises(SystemExit, match=f"{message}.*; give the folder of its own files with --bpe"):
        main(["bart", str(stock[0]), str(tmp_path / "out"), "--bpe", str(tmp_path)])
    folder = convert("bart", stock[0], *LONG)
    for name in ("encoder.json", "vocab.bpe"):
        (folder / name).write_bytes((tmp_path / name).read_bytes())
    with pytest.raises(PyramidionError, match=f"{message}.*; put the files of its training next to the checkpoint"):
        load_summarizer(str(folder))


def test_byte_level_bpe_is_found_next_to_the_checkpoint_or_in_the_data_folder(stock, symbols, tmp_path):
    data, checkpoint = stock[0].parent, tmp_path / "model.pt"
    expected = byte_level.find_byte_level(data)
    assert find_subwords(symbols, None, [tmp_path], None, checkpoint) is None
    assert find_subwords(symbols, None, [tmp_path, data], None, checkpoint) == expected
    (tmp_path / "encoder.json").write_text(json.dumps({**expected.numbers, "hello": 99}))
    shutil.copy(data / "vocab.bpe", tmp_path)
    with pytest.raises(PyramidionError, match=f"{tmp_path}.*give the folder of its own files with --bpe"):
        find_subwords(symbols, None, [tmp_path / "none", tmp_path], None, checkpoint)


def test_dictionary_of_another_size_is_refused(stock, tmp_path):
    (tmp_path / "dict.txt").write_text("a 1\n")
    with pytest.raises(SystemExit, match="has 5 symbols, but the model's embedding 270 rows"):
        main(["bart", str(stock[0]), str(tmp_path / "out"), "--dictionary", str(tmp_path / "dict.txt")])


def test_output_folder_with_a_colon_is_refused(stock, tmp_path):
    with pytest.raises(SystemExit, match=r"x:y contains ':', which fairseq reads as a separator: rename it"):
        main(["bart", str(stock[0]), str(tmp_path / "x:y")])
    assert not (tmp_path / "x:y").exists()


def test_dictionary_is_stored_and_compared_with_the_given_one(stock, convert, symbols, tmp_path):
    """Check that conversion and export refuse the same symbols in another order."""
    folder = convert("bart", stock[0])
    record = load_checkpoint(folder / "model.pt")["extra_state"]["vocabularies"]
    assert record == {"source": "\n".join(symbols), "target": "\n".join(symbols), "sentencepiece": None}
    other = [*symbols[:4], *symbols[5:3:-1], *symbols[6:]]
    dictionary_files.write_dictionary(other, tmp_path / "dict.txt")
    for kind in ("bart", "huggingface"):
        with pytest.raises(SystemExit) as stopped:
            convert(kind, folder / "model.pt", "--dictionary", tmp_path / "dict.txt")
        line = f"another source dictionary than {tmp_path}/dict.txt: line 1 has {other[4]!r}, not {symbols[4]!r}; give"
        assert line in stopped.value.code
    again = load_checkpoint(convert("bart", folder / "model.pt") / "model.pt")
    assert again["extra_state"]["vocabularies"] == record


@pytest.fixture
def corpus(stock, symbols, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for side in ("source", "target"):
        dictionary_files.write_dictionary(symbols, folder / f"dict.{side}.txt")
    for split in ("train", "valid", "test"):
        texts = [[*row[1:].tolist()] for row in documents([90, 90, 90, 90], len(symbols))]
        write_split(folder, split, texts, [[5, 6, 2]] * 4)
    return folder


def common(corpus):
    where = [corpus, "--user-dir", ROOT / "pyramidion_fairseq", "--task", "long_document_summarization", "--cpu"]
    return [*where, "--num-workers", 0, "--data-buffer-size", 0, "--batch-size", 2]


def test_stock_fairseq_restores_bart_into_a_long_model_and_generates(stock, corpus, command, tmp_path):
    """Check --restore-file with --max-source-positions, without a conversion before."""
    narrow = ["--encoder-layers", 3, "--decoder-layers", 2, "--lsg-block-size", 16, "--lsg-sparse-block-size", 16]
    for side in ("encoder", "decoder"):
        narrow += [f"--{side}-embed-dim", 32, f"--{side}-ffn-embed-dim", 64, f"--{side}-attention-heads", 4]
    fresh = ["--reset-optimizer", "--reset-dataloader", "--reset-meters", "--reset-lr-scheduler"]
    lengths = ["--max-source-positions", 150, "--max-target-positions", 64, "--pooling-schedule", "3:40"]
    steps = ["--optimizer", "adam", "--lr", 1e-9, "--max-update", 1, "--disable-validation", "--max-epoch", 1]
    done = command(
        "train", *common(corpus), "--arch", "bart_base_long", *narrow, *lengths, *steps, *fresh,
        "--restore-file", stock[0], "--save-dir", tmp_path / "run", "--no-epoch-checkpoints",
    )  # fmt: skip
    assert "64 positions repeated to 150" in done.stdout + done.stderr
    state = torch.load(tmp_path / "run" / "checkpoint_last.pt")["model"]
    torch.testing.assert_close(
        state["decoder.layers.1.fc2.weight"], stock[1].state_dict()["decoder.layers.1.fc2.weight"], atol=1e-6, rtol=0
    )
    out = command("generate", *common(corpus), "--path", tmp_path / "run" / "checkpoint_last.pt", "--max-len-b", 4)
    assert sorted(re.findall(r"^D-(\d+)", out.stdout, re.M)) == ["0", "1", "2", "3"]


def test_documents_and_summaries_start_with_bos(stock, convert, corpus):
    folder = convert("bart", stock[0], *LONG)
    hub = PyramidionModel.from_pretrained(str(folder))
    hub.task.cfg.data = str(corpus)
    hub.task.load_dataset("test")
    sample = hub.task.datasets["test"][0]
    assert sample["source"][:1].tolist() == [0] and sample["source"].numel() == 90
    assert sample["target"].tolist() == [0, 5, 6, 2]
    batch = hub.task.datasets["test"].collater([sample])
    assert batch["net_input"]["prev_output_tokens"].tolist() == [[2, 0, 5, 6]]
    hypothesis = hub.generate([sample["source"][1:]], beam=2, max_len_b=6)[0][0]["tokens"]
    assert hypothesis[0] == 0


@pytest.mark.parametrize("whole", [True, False])
def test_summarize_gives_the_same_from_python_torch_hub_copies_and_pickles(stock, convert, whole):
    folder = convert("bart", stock[0], *LONG, "--pool-lengths", "40")
    path = str(folder if whole else folder / "model.pt")
    texts = ["hello world, héllo wörld ☃", "", "hello " * 400]
    generation = {"min_len": 3, "max_len_b": 8}
    summaries = PyramidionModel.from_pretrained(path).summarize(texts, with_provenance=True, **generation)
    assert [bool(summary.text) for summary in summaries] == [True, False, True]
    source = summaries[0].provenance.source
    assert "".join(source.words) == "helloworld,hélloworld☃".replace("hélloworld", "héllowörld")
    assert len(summaries[2].provenance.source.tokens) == 255
    hub = torch.hub.load(str(ROOT), "summarizer", path, source="local")
    for same in (hub, copy.deepcopy(hub), pickle.loads(pickle.dumps(hub))):  # noqa: S301
        assert [summary.text for summary in same.summarize(texts, **generation)] == [s.text for s in summaries]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_summarize_gives_the_same_in_other_batches_and_in_float64(stock, convert, dtype):
    folder = convert("bart", stock[0], *LONG, "--pool-lengths", "40")
    texts = ["hello " * count for count in (40, 3, 400, 90)]
    generation = {"min_len": 3, "max_len_b": 8}
    hub = PyramidionModel.from_pretrained(str(folder), device="cpu")
    expected = hub.summarize(texts, **generation)
    alone = hub.summarize(texts, batch_size=1, **generation)
    assert [summary.tokens for summary in alone] == [summary.tokens for summary in expected]
    found = hub.to(dtype).summarize(texts, max_tokens=500, **generation)
    assert {parameter.dtype for parameter in hub.parameters()} == {dtype}
    assert all(math.isfinite(summary.score) and len(summary.tokens) >= 3 for summary in found)
    if dtype is torch.float64:
        assert [summary.tokens for summary in found] == [summary.tokens for summary in expected]
        for theirs, ours in zip(expected, found):
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)
