"""Tests of the options of untrusted checkpoints: bounds, no code, no files of the user; and of unusable weights."""

import argparse
import contextlib
import math
import os
import re

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import lstm
from omegaconf import OmegaConf

from pyramidion_fairseq import checkpoints
from pyramidion_fairseq.cli import convert, summarize
from pyramidion_fairseq.compat import evaluated_options, plain_options
from pyramidion_fairseq.config import COUNTS
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import load_summarizer
from pyramidion_fairseq.models import PyramidionModel
from tests.helpers import forked
from tests.helpers.paths import ROOT
from tests.helpers.refusals import refused
from tests.helpers.summaries import write_model


def shared_lists(depth):
    value = ["x"]
    for _ in range(depth):
        value = [value, value]
    return value


def with_options(path, part="cfg", **options):
    torch.save({"model": {}, part: {"model": options}}, path)
    return path


def test_deeply_shared_lists_are_refused_without_visiting_every_path(tmp_path):
    with_options(tmp_path / "m.pt", lists=shared_lists(40))
    assert (tmp_path / "m.pt").stat().st_size < 4000
    assert "options" in refused(tmp_path / "m.pt") or "values" in refused(tmp_path / "m.pt")


@pytest.mark.parametrize("part", ["cfg", "args"])
def test_more_than_100000_options_are_refused(part, tmp_path):
    with_options(tmp_path / "m.pt", part, lists=shared_lists(18))
    assert "more than 100,000 options" in refused(tmp_path / "m.pt")


def test_omegaconf_references_that_grow_exponentially_are_refused(tmp_path):
    options = {"a0": "x" * 100, **{f"a{n}": f"${{a{n - 1}}}" * 10 for n in range(1, 12)}}
    torch.save({"model": {}, "cfg": OmegaConf.create(options)}, tmp_path / "m.pt")
    assert "a1" in refused(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "value",
    ["9**9**9", "1<<10**9", "'%999999999d' % 1", "f'{1:999999999}'", "[0]*10**9", "[0]*999999999", "[[0]*999]*999",
     "x*999999999", "9999999999*(9999999999*9999999999)*[0]", "[0]*(9-8)", "1+" * 20000 + "1"],
)  # fmt: skip
def test_option_expressions_with_huge_values_are_refused(value, tmp_path):
    line = refused(with_options(tmp_path / "m.pt", conv_feature_layers=value))
    assert "model.conv_feature_layers" in line


@pytest.mark.parametrize(
    "value", ["os.environ", "os.environ['HOME']", "utils.os.environb", "sys.argv", "sys.modules", "torch.__file__"]
)
def test_option_expressions_that_read_process_state_are_refused(value, tmp_path):
    line = refused(with_options(tmp_path / "m.pt", adaptive_softmax_cutoff=value))
    assert "model.adaptive_softmax_cutoff" in line and "HOME=" not in line


@pytest.mark.parametrize("value", ["0" * 60 + "1000000000", " " * 60 + "10e9", "inf", "nan", math.inf, math.nan])
@pytest.mark.parametrize("name", ["encoder_layers", "max_source_positions"])
def test_bounds_of_options_hold_for_every_notation_of_a_number(name, value, tmp_path):
    assert f"the option {name} is" in refused(with_options(tmp_path / "m.pt", **{name: value}))


@pytest.mark.parametrize("name", [*COUNTS, "max_positions", "decoder_output_dim", "beam", "max_len_b"])
def test_every_count_option_has_an_upper_bound(name, tmp_path):
    assert f"the option {name} is 10000000" in refused(with_options(tmp_path / "m.pt", **{name: 10_000_000}))


def test_number_of_layers_must_match_the_tensors(tmp_path):
    tensors = {"encoder.layers.999.fc1.weight": torch.ones(4, 2), "encoder.layers.0.fc1.weight": torch.ones(4, 2)}
    torch.save({"model": tensors, "cfg": {"model": {"encoder_layers": 1000}}}, tmp_path / "m.pt")
    assert "encoder_layers is 1,000, but the file has 2" in refused(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "value", ["[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] * 2", "(0.9, 0.98)", "2*[3]", "en-de", "a/b-1", "-1"]
)
def test_harmless_option_values_are_not_code(value):
    assert list(evaluated_options.find_code({"model": {"option": value}})) == []


def test_long_lists_of_languages_are_not_code():
    assert list(evaluated_options.find_code({"task": {"lang_pairs": "en-de," * 50_000}})) == []


@pytest.mark.parametrize("flag", ["replace_unk", "encoder_embed_path", "load_pretrained_encoder_from", "user_dir"])
@pytest.mark.parametrize("part", ["cfg", "args"])
def test_options_that_name_files_are_cleared(flag, part, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with_options(tmp_path / "m.pt", part, **{flag: str(tmp_path / "pipe"), "kept": "a"})
    assert checkpoints.load_checkpoint(tmp_path / "m.pt")[part]["model"] == {flag: None, "kept": "a"}


def test_recorded_sentencepiece_model_is_cleared_unless_it_is_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    for name, kept in (("pipe", ""), ("none", ""), ("file", str(tmp_path / "file"))):
        with_options(tmp_path / "m.pt", sentencepiece_model=str(tmp_path / name))
        assert checkpoints.load_checkpoint(tmp_path / "m.pt")["cfg"]["model"] == {"sentencepiece_model": kept}


def test_cleared_options_still_convert_to_fairseq_options(tmp_path):
    """Check an old checkpoint, whose flat options fairseq converts to typed ones."""
    args = argparse.Namespace(arch="transformer", task="translation", bpe="gpt2", data="d")
    vars(args).update(dict.fromkeys(plain_options.OPENED, str(tmp_path / "somewhere")))
    torch.save({"model": {}, "args": args}, tmp_path / "m.pt")
    for bpe in ("gpt2", "subword_nmt", "fastbpe", "sentencepiece", "bert"):
        found = checkpoints.load_checkpoint(tmp_path / "m.pt")["args"]
        found.bpe, found.sentencepiece_model = bpe, ""
        assert "somewhere" not in str(convert_namespace_to_omegaconf(found))


def test_language_that_is_a_path_is_refused(tmp_path):
    assert "not the name of a language" in refused(with_options(tmp_path / "m.pt", source_lang="../../../etc/passwd"))


@pytest.mark.parametrize("options", [argparse.Namespace, dict])
def test_omegaconf_options_with_circular_parents_are_read_as_plain_values(options, tmp_path):
    """Check two parts that are each other's parents; their methods would search for a root without end."""
    one, other = OmegaConf.create({"a": [1]}), OmegaConf.create({"b": {"c": 2}})
    vars(one)["_parent"], vars(other)["_parent"] = other, one
    torch.save({"model": {}, "args": options(one=one, other=other)}, tmp_path / "m.pt")
    found = checkpoints.load_checkpoint(tmp_path / "m.pt")["args"]
    assert found == options(one={"a": [1]}, other={"b": {"c": 2}})


# --------------------------------------------------------------------------------------------- every way in


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@contextlib.contextmanager
def changed(folder, change):
    """Change the checkpoint of the folder for the duration of a block."""
    path = folder / "checkpoint_best.pt"
    whole = path.read_bytes()
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    try:
        yield path
    finally:
        path.write_bytes(whole)


def setting(part="model", **options):
    return lambda state: state["cfg"][part].update(options)


def not_a_number(state):
    state["model"]["encoder.layers.1.fc2.bias"][3] = float("nan")


def wide_lstm(state):
    """Change the checkpoint to an architecture whose widths are not checked one by one."""
    options = argparse.Namespace(arch="lstm", encoder_hidden_size=2**14, encoder_embed_dim=8, decoder_embed_dim=8)
    lstm.base_architecture(options)
    state["cfg"]["model"] = {**vars(options), "_name": "lstm"}


def generate(path):
    """Load the model as fairseq-generate does."""
    checkpoint_utils.load_model_ensemble([str(path)], arg_overrides={"data": str(path.parent)})


WAYS = {
    "summarizer": lambda path: load_summarizer(str(path.parent), device="cpu"),
    "from_pretrained": lambda path: PyramidionModel.from_pretrained(str(path.parent)),
    "generate": generate,
}
UNUSABLE = {
    "encoder_layers of 10^9": (setting(encoder_layers=10**9), "encoder_layers"),
    "more layers than tensors": (setting(encoder_layers=500), "encoder_layers"),
    "a width that no tensor has": (setting(decoder_ffn_embed_dim=2**19), "decoder_ffn_embed_dim"),
    "negative heads": (setting(encoder_attention_heads=-2), "attention.heads"),
    "zero heads": (setting(decoder_attention_heads=0), "attention.heads"),
    "zero width": (setting(encoder_embed_dim=0), "embed.dim"),
    "10^12 positions": (setting(max_source_positions=10**12), "max.source.positions"),
    "block size of 10^12": (setting(block_size=10**12), "block.size"),
    "10^12 iterations": (setting(sinkhorn_iterations=10**12), "sinkhorn.iterations"),
    "a wider LSTM than its tensors": (wide_lstm, "more than 16,"),
    "unknown architecture": (setting(_name="none"), "cannot be loaded"),
    "a number as a weight": (lambda state: state["model"].update({"encoder.layers.0.fc1.weight": 3}), "loaded"),
    "an embedding without rows": (
        lambda state: state["model"].update({"encoder.embed_tokens.weight": torch.tensor(1.0)}),
        "cannot be loaded",
    ),
    "options without a model": (lambda state: state.update(cfg={}), "cannot be loaded"),
    "an option of another type": (setting(dropout="x"), "cannot be loaded"),
    "NaN": (not_a_number, "encoder.layers.1.fc2.bias has NaN"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_checkpoints_are_one_line_errors_in_every_way_of_loading(way, kind, folder):
    change, said = UNUSABLE[kind]
    with changed(folder, change) as path, pytest.raises(PyramidionError, match=said) as error:
        WAYS[way](path)
    assert "\n" not in str(error.value)


def test_commands_refuse_weights_that_are_not_finite(folder, tmp_path):
    (tmp_path / "in").write_text("a document\n")
    with changed(folder, not_a_number) as path:
        with pytest.raises(SystemExit) as stopped:
            summarize.main(["--checkpoint", str(path), "--device", "cpu", "--input", str(tmp_path / "in")])
        assert stopped.value.code.startswith("pyramidion-summarize: error: ") and "NaN" in stopped.value.code
        argv = [str(folder), "--path", str(path), "--task", "long_document_summarization", "--cpu"]
        argv += ["--bpe", "sentencepiece", "--sentencepiece-model", str(folder / "sentencepiece.model")]
        argv += ["-s", "source", "-t", "target"]
        done = forked.run(forked.fairseq_command("interactive"), ["fairseq-interactive", *argv], "a document\n", 120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {path} has weights that are not finite")


def test_replace_unk_opens_nothing(folder, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with changed(folder, setting("generation", replace_unk=str(tmp_path / "pipe"))):
        hub = load_summarizer(str(folder), device="cpu")
    assert hub.align_dict is None and hub.cfg.generation.replace_unk is None


def test_convert_refuses_published_weights_that_are_not_finite(folder, tmp_path):
    args = {"enc_layers_and_token_width": "{1: 5}", "max_source_positions": 64}
    torch.save({"model": {"a.weight": torch.tensor([1, float("inf")])}, "args": args}, tmp_path / "in.pt")
    with pytest.raises(SystemExit) as stopped:
        convert.main(["published", str(tmp_path / "in.pt"), str(tmp_path / "out.pt")])
    assert "a.weight has NaN or infinity" in stopped.value.code and not (tmp_path / "out.pt").exists()


def test_security_page_lists_every_option_that_is_cleared():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    table = page[page.index("## Options that name files") :]
    patterns = [re.escape(name).replace(r"\*", ".*") for name in re.findall(r"`([\w*]+)`", table)]
    cleared = [*plain_options.OPENED, *plain_options._IN_FOLDER, "sentencepiece_model", "data"]
    assert [name for name in cleared if not any(re.fullmatch(pattern, name) for pattern in patterns)] == []
    assert sum(name.startswith("load_pretrained_") for name in plain_options.OPENED) == 7 and "(seven)" in table
