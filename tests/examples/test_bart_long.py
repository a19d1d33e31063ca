"""Tests of examples/bart_long: fairseq accepts its commands, they agree, and experiment and scripts run."""

import json
import logging
import os
import shlex
import sys

import pytest
import sentencepiece
import torch
from fairseq.data import Dictionary, indexed_dataset
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq_cli import train
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pyramidion_fairseq.checkpoints import load_checkpoint
from pyramidion_fairseq.cli import convert
from pyramidion_fairseq.interop import byte_level, dictionary_files
from tests.helpers.architectures import run
from tests.helpers.bart import MERGES, rows, stock, symbols  # noqa: F401 -- fixtures
from tests.helpers.families import write_pieces
from tests.helpers.paths import EXAMPLES
from tests.helpers.recipes import ELSEWHERE, parsed

from bart_long import compare, curves, encode, steps  # isort: skip

FOLDER = EXAMPLES / "bart_long"


def shown(program, tmp_path, script, *words, **settings):
    """Return the words of the commands that a script would run, without the first word of each."""
    (tmp_path / "text").mkdir(exist_ok=True)
    (tmp_path / "text" / "train.source").write_text("a\n" * 640)
    settings = {"DATA": str(tmp_path), "DRY_RUN": "1", "GPUS": "8", **settings}
    done = program("bash", FOLDER / script, *words, **settings)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line)[1:] for line in done.stdout.splitlines()]


def test_yaml_and_train_script_agree_field_by_field(program, tmp_path):
    (words,) = shown(program, tmp_path, "train.sh")
    theirs = OmegaConf.to_container(parsed(words), resolve=True, enum_to_str=True)
    changes = [f"task.data={tmp_path}/bart/data-bin", "optimization.max_update=120"]
    changes += [
        "lr_scheduler.warmup_updates=12",
        f"checkpoint.save_dir=checkpoints/bart_long/tuned-{tmp_path.name}",
        "checkpoint.finetune_from_model=checkpoints/bart_long/start/model.pt",
    ]
    hydra_init("bart_long")
    with initialize_config_dir(str(FOLDER), version_base="1.1"):
        cfg = compose("bart_long", overrides=changes)
    add_defaults(cfg)
    ours = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    ours["scoring"] = theirs["scoring"]  # used by fairseq-generate only
    for group in theirs:
        for name, value in (theirs[group] or {}).items():
            assert (group, name) in ELSEWHERE or ours[group][name] == value, (group, name)
    assert theirs["optimization"]["max_update"] == 6 * 640 // 32


@pytest.mark.parametrize("gpus, batch", [(0, 1), (1, 2), (8, 4)])
def test_train_script_has_32_documents_an_update_for_any_gpus_and_batch(program, tmp_path, gpus, batch):
    (words,) = shown(program, tmp_path, "train.sh", GPUS=str(gpus), BATCH=str(batch))
    cfg = parsed(words)
    assert cfg.dataset.batch_size * cfg.optimization.update_freq[0] * max(1, gpus) == 32
    assert cfg.common.cpu == (gpus == 0)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"GPUS": "3"}, "32 documents cannot be divided into GPUS=3"),
        ({"EPOCHS": "0"}, "EPOCHS=0: a whole number is needed"),
        ({"EPOCHS": "1.5"}, "EPOCHS=1.5: a whole number is needed"),
        ({"BATCH": "-1"}, "BATCH=-1: a whole number is needed"),
        ({"BATCH": "08"}, "BATCH=08: a whole number is needed"),
        ({"GPUS": "all"}, "GPUS=all: a whole number is needed"),
        ({"DATA": "missing"}, "no text/train.source in DATA=missing: say which folder"),
        ({"PRECISION": "int8"}, "one of full, float32, tf32, fp16, bf16"),
        ({"PRECISION": "tf32", "GPUS": "0"}, "PRECISION=tf32 needs a GPU"),
    ],
)
def test_train_script_refuses_invalid_settings_in_one_line(program, tmp_path, settings, message):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.source").write_text("a\n")
    settings = {"DATA": str(tmp_path), "DRY_RUN": "1", "GPUS": "8", **settings}
    done = program("bash", FOLDER / "train.sh", **settings)
    assert done.returncode == 1 and message in done.stderr and not done.stdout
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_train_script_makes_at_least_one_update(program, tmp_path):
    """Check it because --max-update 0 means no limit, and a learning rate of 0 from the start."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.source").write_text("a\n" * 5)
    settings = {"DATA": str(tmp_path), "DRY_RUN": "1", "GPUS": "8"}
    cfg = parsed(shlex.split(program("bash", FOLDER / "train.sh", **settings).stdout)[1:])
    assert cfg.optimization.max_update == 1 and cfg.lr_scheduler.total_num_update == 1


def test_tf32_precision_sets_an_environment_variable_of_torch(program, tmp_path):
    """Check that torch, which reads the variable when it is imported, then allows TF32."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.source").write_text("a\n")
    settings = {"DATA": str(tmp_path), "DRY_RUN": "1", "GPUS": "8", "PRECISION": "tf32"}
    done = program("bash", FOLDER / "train.sh", **settings)
    words = shlex.split(done.stdout)
    assert words[0] == "env" and words[2] == "fairseq-train" and not {"--bf16", "--fp16"} & set(words)
    code = "import torch; print(torch.backends.cuda.matmul.allow_tf32)"
    assert program("env", words[1], "python", "-c", code).stdout == "True\n"


def test_convert_and_train_scripts_use_the_same_architecture(program, tmp_path):
    options = "--lsg-block-size 256 --lsg-sparsity-type none --max-source-positions 4096"
    for arch in ("bart_base_long_pooled", "bart_large_long"):
        settings = {"ARCH": arch, "OPTIONS": options}
        (made,) = shown(program, tmp_path, "convert.sh", "model.pt", **settings)
        (words,) = shown(program, tmp_path, "train.sh", **settings)
        assert made[:2] == ["bart", "model.pt"] and made[-6:] == options.split() == words[words.index("512") + 1 :][:6]
        assert ("--pool-lengths" in made) == bool(parsed(words).model.pooling_schedule)


def write_bpe(folder, symbols):  # noqa: F811
    dictionary_files.write_dictionary(symbols, folder / "dict.txt")
    byte_level.write_bpe(byte_level.Bpe(byte_level.numbers_of(MERGES), MERGES), folder)


def test_encode_writes_a_corpus_in_the_byte_level_bpe_of_the_model(monkeypatch, tmp_path, symbols):  # noqa: F811
    write_bpe(tmp_path, symbols)
    (tmp_path / "text").mkdir()
    texts = {"source": ["hello world, héllo ☃", "", "hello"], "target": ["hello", "world", ""]}
    for split in ("train", "valid"):
        for side, lines in texts.items():
            (tmp_path / "text" / f"{split}.{side}").write_text("".join(line + "\n" for line in lines), "utf-8")
    monkeypatch.setattr(sys, "argv", ["encode.py", str(tmp_path), str(tmp_path), "--workers", "1"])
    encode.main()
    dictionary = Dictionary.load(str(tmp_path / "bart" / "data-bin" / "dict.source.txt"))
    assert dictionary.symbols == symbols
    for name in ("encoder.json", "vocab.bpe"):  # training keeps their checksums
        assert (tmp_path / "bart" / "data-bin" / name).read_bytes() == (tmp_path / name).read_bytes()
    encode.load(tmp_path)
    for side, lines in texts.items():
        path = tmp_path / "bart" / "data-bin" / f"valid.source-target.{side}"
        data = indexed_dataset.make_dataset(str(path), "mmap")
        for line, ids in zip(lines, data, strict=True):
            numbers = [int(dictionary[i]) for i in ids[:-1]]
            assert ids[-1] == 2 and encode._BPE["encoder"].decode(numbers) == line
    monkeypatch.setattr(sys, "argv", ["encode.py", str(tmp_path / "text"), str(tmp_path)])
    with pytest.raises(SystemExit, match=r"has no dict\.txt"):
        encode.main()
    monkeypatch.setattr(sys, "argv", ["encode.py", str(tmp_path), str(tmp_path), "--workers", "0"])
    with pytest.raises(SystemExit, match="--workers must be at least 1"):
        encode.main()
    (tmp_path / "text" / "valid.target").unlink()
    with pytest.raises(SystemExit, match=r"there is no .*valid\.target"):
        encode.main()
    assert (tmp_path / "bart" / "data-bin" / "vocab.bpe").exists()  # the earlier output is kept


def test_encode_writes_a_corpus_in_the_sentencepiece_pieces_of_the_model(monkeypatch, tmp_path):
    write_pieces(tmp_path / "sentencepiece.model", (0, 1, 2, -1))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "sentencepiece.model"))
    pieces = [processor.id_to_piece(number) for number in range(3, processor.vocab_size())]
    dictionary_files.write_dictionary([*dictionary_files.SPECIALS, *pieces, "en_XX", "<mask>"], tmp_path / "dict.txt")
    (tmp_path / "text").mkdir()
    lines = ["hello world we read", "", "short summaries"]
    for side in ("source", "target"):
        (tmp_path / "text" / f"train.{side}").write_text("".join(line + "\n" for line in lines), "utf-8")
    monkeypatch.setattr(sys, "argv", ["encode.py", str(tmp_path), str(tmp_path), "--workers", "1"])
    encode.main()
    binary = tmp_path / "bart" / "data-bin"
    dictionary = Dictionary.load(str(binary / "dict.source.txt"))
    assert (binary / "sentencepiece.model").read_bytes() == (tmp_path / "sentencepiece.model").read_bytes()
    data = indexed_dataset.make_dataset(str(binary / "train.source-target.source"), "mmap")
    for line, ids in zip(lines, data, strict=True):
        assert [dictionary[i] for i in ids] == [*processor.encode(line, out_type=str), "</s>"]


@pytest.fixture
def in_this_process(monkeypatch):
    """Run the experiment's commands in this process, which saves the seconds of their start."""

    def inside(words, log, output=None):
        handler = logging.FileHandler(log)
        handler.setFormatter(logging.Formatter("%(name)s | %(message)s"))
        logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(logging.INFO)
        try:
            if words[2] == "fairseq_cli.train":
                run(monkeypatch, train.cli_main, *words[3:])
            else:
                assert words[2] == "pyramidion_fairseq.cli.convert"
                convert.main(words[3:])
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()

    monkeypatch.setattr(steps.process, "run", inside)


@pytest.mark.parametrize("family", steps.FAMILIES)
def test_compare_pretrains_converts_and_fine_tunes(monkeypatch, in_this_process, prepared, tmp_path, capsys, family):
    words = ["compare.py", "--data", str(prepared), "--output", str(tmp_path), "--size", "test", "--family", family]
    monkeypatch.setattr(sys, "argv", words)
    assert compare.main() == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert [update for update, _ in results["pretraining"]] == [1, 2, 3]
    for start in steps.STARTS:
        for split in ("train", "valid"):
            assert [update for update, _ in results[start][split]] == [1, 2, 3, 4]
    assert results["converted"]["train"][0][1] != results["scratch"]["train"][0][1]
    assert (tmp_path / "results.png").stat().st_size > 10_000 and "| train | 1" in capsys.readouterr().out
    pretrained = load_checkpoint(tmp_path / "pretraining" / "checkpoints" / "checkpoint_last.pt")["model"]
    converted = load_checkpoint(tmp_path / "converted" / "model.pt")["model"]
    name = "decoder.layers.0.encoder_attn.q_proj.weight"
    assert torch.equal(pretrained[name], converted[name])
    options = load_checkpoint(tmp_path / "tuned_scratch" / "checkpoint_last.pt")["cfg"]["model"]
    made = load_checkpoint(tmp_path / "converted" / "model.pt")["cfg"]["model"]
    for name in ("encoder_normalize_before", "no_scale_embedding", "pooling_schedule", "document_marker", "dropout"):
        assert options[name] == made[name], name
    assert made["encoder_normalize_before"] == (family == "mbart")
    assert made["summary_marker"] == ("[en_XX]" if family == "mbart" else "")
    # Finished steps are not run again; other settings need another folder.
    os.utime(tmp_path / "converted" / "model.pt", (0, 0))
    monkeypatch.setattr(sys, "argv", words)
    assert compare.main() == 0 and (tmp_path / "converted" / "model.pt").stat().st_mtime == 0
    monkeypatch.setattr(sys, "argv", [*words, "--seed", "2"])
    assert compare.main() == 1 and "made with other settings" in capsys.readouterr().err


def test_losses_are_read_from_the_log_of_fairseq(tmp_path):
    path = tmp_path / "log"
    path.write_text(
        "x | train_inner | epoch 001:  4 / 9 loss=10.5, ppl=1, wps=3.5, ups=1, num_updates=4, lr=1\n"
        "x | valid | epoch 001 | valid on 'valid' subset | loss 9.25 | ppl 2 | wps 1 | num_updates 4 | best_loss 9\n"
        "x | train_inner | epoch 001:  4 / 9 loss=10.4, ppl=1, wps=3.5, ups=1, num_updates=4, lr=1\n"
    )
    assert curves.losses(path) == {"train": [[4, 10.4]], "valid": [[4, 9.25]]}


@pytest.mark.soak
def test_scripts_convert_encode_train_generate_and_evaluate(program, stock, symbols, prepared, tmp_path):  # noqa: F811
    """Run the scripts as a user does, with a small BART; ``-rP`` prints the lines that README.md quotes."""
    size = "--encoder-layers 3 --decoder-layers 2 --max-source-positions 96 --lsg-block-size 8 --pooling-schedule 3:16"
    size += " --lsg-sparse-block-size 8"
    for side in ("encoder", "decoder"):
        size += f" --{side}-embed-dim 32 --{side}-ffn-embed-dim 64 --{side}-attention-heads 4"
    data = tmp_path / "data"
    data.mkdir()
    os.symlink(prepared / "text", data / "text")
    settings = {"DATA": str(data), "MODEL": str(tmp_path / "start"), "SAVE": str(tmp_path / "tuned"), "GPUS": "0"}
    settings.update(ARCH="bart_base_long", OPTIONS=size, EPOCHS="8", BATCH="8")
    for words in (
        ["bash", FOLDER / "convert.sh", stock[0], "--max-target-positions", 64],
        [sys.executable, FOLDER / "encode.py", tmp_path / "start", data, "--workers", 1],
        ["bash", FOLDER / "train.sh", "--num-workers", 0, "--max-target-positions", 64],
        ["bash", FOLDER / "generate.sh", "--max-len-b", 20, "--min-len", 2],
        ["bash", FOLDER / "evaluate.sh", "--samples", 100],
    ):
        done = program(*words, **settings)
        assert done.returncode == 0, done.stderr[-3000:]
        print(words[1], *(done.stdout + done.stderr).splitlines()[-6:], sep="\n")
    assert "F1" in done.stdout and (tmp_path / "tuned" / "rouge-test.json").exists()
    assert len((tmp_path / "tuned" / "summaries-test.txt").read_text("utf-8").splitlines()) == 6
