"""Tests of mistakes in fairseq's commands: a one-line error instead of a traceback, pages of usage, or silence."""

import argparse
import importlib.util
import os
import sys
from contextlib import nullcontext

import pytest
import torch
from fairseq.data import LanguagePairDataset

from pyramidion_fairseq import errors
from pyramidion_fairseq.compat import mistakes
from pyramidion_fairseq.tasks.dataset import DocumentPairDataset
from tests.helpers import forked
from tests.helpers.paths import ROOT
from tests.helpers.summaries import write_checkpoint
from tests.helpers.training import ARCH, TASK, TRAIN, USER_DIR, write_corpus

ADAM = ["--optimizer", "adam", "--batch-size", "6", "--num-workers", "0", "--max-update", "1"]
LR = ["--lr", "0.003"]
START = [*USER_DIR, *ARCH, *ADAM]

#: {mistake: (command, arguments after the data, exit status, what the line says)}; DATA is the folder above data-bin.
MISTAKES = {
    "a folder above data-bin": (
        "train", ["DATA", *START, *TASK, *LR, "--cpu"], 1,
        "DATA has no SPLIT.source-target.source.idx and is not binarised data: did you mean DATA/data-bin?",
    ),
    "a folder above data-bin in generation": (
        "generate", ["DATA", *USER_DIR, *TASK, "--path", "x.pt", "--cpu"], 1, "did you mean DATA/data-bin?",
    ),
    "no data": ("train", ["DATA/nowhere", *START, *TASK, *LR, "--cpu"], 1, "there is no data folder 'DATA/nowhere'"),
    "a misspelt architecture": (
        "train", ["DATA/data-bin", *USER_DIR, *ADAM, *TASK, *LR, "--arch", "deeppyramidon"], 2,
        "--arch/-a: there is no 'deeppyramidon': did you mean deeppyramidion?",
    ),
    "a misspelt task": (
        "train", ["DATA/data-bin", *START, *LR, "--task", "long_document_summarisation"], 2,
        "there is no 'long_document_summarisation': did you mean long_document_summarization?",
    ),
    "a misspelt option": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--pooling-schedul", "2:5"], 2,
        "unrecognized arguments: --pooling-schedul 2:5; --pooling-schedul: did you mean --pooling-schedule?",
    ),
    "no task": (
        "train", ["DATA/data-bin", *START, *LR, "--cpu"], 1,
        "--arch deeppyramidion needs --task long_document_summarization",
    ),
    "validation without a task": (
        "validate", ["DATA/data-bin", *USER_DIR, "--path", "MODEL", "--batch-size", "2", "--cpu"], 2,
        "error: --task is missing: give long_document_summarization, or the task of the checkpoint",
    ),
    "validation without a checkpoint": (
        "validate", ["DATA/data-bin", *USER_DIR, *TASK, "--batch-size", "2", "--cpu"], 1,
        "error: --path is missing: give the path of a checkpoint",
    ),
    "eval-lm with a summariser": (
        "eval-lm", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--batch-size", "2", "--cpu"], 1,
        "fairseq-eval-lm is for language models, which read no document: use fairseq-validate for the loss",
    ),
    "eight processes without GPUs": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--distributed-world-size", "8"], 1,
        "8 processes (--distributed-world-size; GPUS= of a recipe) need a GPU each, and no GPU is available: ",
    ),
    "several processes on a CPU": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--distributed-world-size", "2"], 1,
        "start several processes on CPUs with torchrun or Slurm (torchrun --nproc_per_node N --no_python "
        "fairseq-train ... --cpu --distributed-world-size N; docs/scaling.md)",
    ),
    "fp16 on a CPU": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--fp16"], 1, "--fp16 needs a GPU, and --cpu is given",
    ),
    "fp16 without GPUs": ("train", ["DATA/data-bin", *START, *TASK, *LR, "--fp16"], 1, "and none is available: omit"),
    "chunked_cross_entropy with fully_sharded": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--criterion", "chunked_cross_entropy", "--ddp-backend",
         "fully_sharded"], 1,
        "--criterion chunked_cross_entropy reads the weights of the output layer",
    ),
    "amp on a CPU": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--amp"], 1, "--amp needs a GPU, and --cpu is given",
    ),
    "bf16 in generation": (
        "generate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--bf16"], 1,
        "--bf16 is for training, and this command would compute in float32: use --fp16 (on a GPU), or",
    ),
    "amp in validation": (
        "validate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--batch-size", "2", "--amp"], 1,
        "--amp is for training, and this command would compute in float32",
    ),
    "profile on a CPU": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--profile"], 1,
        "--profile needs a GPU, and --cpu is given: omit the option",
    ),
    "negative seed": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--seed", "-1"], 1,
        "--seed -1: must be from 0 to 4294967295",
    ),
    "negative seed in generation": (
        "generate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--seed", "-1"], 1,
        "--seed -1: must be from 0 to 4294967295",
    ),
    "negative num-workers": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--num-workers", "-1"], 1,
        "--num-workers -1: must be 0 or more; 0 loads the data in the main process",
    ),
    "batch size 0": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--batch-size", "0"], 1,
        "--batch-size 0: must be 1 or more; otherwise all documents would be one batch",
    ),
    "validation batch size 0": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--batch-size-valid", "0"], 1,
        "--batch-size-valid 0: must be 1 or more; otherwise all documents would be one batch",
    ),
    "negative max-update": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--max-update", "-1"], 1,
        "--max-update -1: must be 0 or more; 0 sets no limit",
    ),
    "label smoothing of 2": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--criterion", "label_smoothed_cross_entropy",
         "--label-smoothing", "2"], 1,
        "--label-smoothing 2.0: must be from 0 to 1",
    ),
    "no optimizer": (
        "train", ["DATA/data-bin", *USER_DIR, *TASK, "--arch", "transpooler", "--batch-size", "2", "--cpu"], 1,
        "no optimizer is given: use --optimizer adam --lr 5e-4, as the paper does",
    ),
    "composite optimizer": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--optimizer", "composite"], 1,
        "--optimizer composite needs groups of parameters, which can be given only with Hydra (optimizer.groups): "
        "use adam",
    ),
    "results path that is a file": (
        "generate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--results-path", "MODEL"], 1,
        "checkpoint_best.pt is a file: give a folder for the summaries",
    ),
    "overrides of an unknown option": (
        "generate",
        ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--model-overrides", "{'dropot': 0.1}"], 1,
        "checkpoint_best.pt has no option 'dropot': did you mean dropout?",
    ),
    "overrides of an unknown option in validation": (
        "validate",
        ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--batch-size", "2", "--model-overrides",
         "{'dropot': 0.1}"], 1,
        "checkpoint_best.pt has no option 'dropot': did you mean dropout?",
    ),
    "overrides that are not a dictionary": (
        "generate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--model-overrides", "dropout"], 1,
        "--model-overrides 'dropout' is not a dictionary such as \"{'dropout': 0.1}\"",
    ),
    "default learning rate with adam": (
        "train", ["DATA/data-bin", *START, *TASK, "--cpu"], 1,
        "the learning rate is fairseq's default of 0.25, with which adam learns nothing: use --lr 5e-4",
    ),
    "empty learning rate": (
        "train", ["DATA/data-bin", *START, *TASK, "--lr", "", "--cpu"], 1,
        "--lr []: must be a positive number, such as --lr 5e-4",
    ),
    "negative learning rate": (
        "train", ["DATA/data-bin", *START, *TASK, "--lr=-1", "--cpu"], 1, "--lr [-1.0]: must be a positive number",
    ),
    "learning rate that is not a number": (
        "train", ["DATA/data-bin", *START, *TASK, "--lr", "fast", "--cpu"], 2,
        "argument --lr: 'fast' is neither a number nor a list of numbers",
    ),
    "a single beta": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--adam-betas", "0.9", "--cpu"], 1,
        "--adam-betas 0.9: must be two numbers in [0, 1), such as --adam-betas '(0.9, 0.98)'",
    ),
    "betas without a closing bracket": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--adam-betas", "(0.9, 0.98", "--cpu"], 1,
        "--adam-betas (0.9, 0.98: must be two numbers",
    ),
    "beta above 1": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--adam-betas", "(0.9, 2)", "--cpu"], 1,
        "--adam-betas (0.9, 2): must be two numbers",
    ),
    "betas that are not numbers": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--optimizer", "fused_adamw", "--adam-betas", "(a, b)", "--cpu"], 1,
        "--adam-betas (a, b): must be two numbers",
    ),
    "missing user-dir": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--user-dir", "DATA/plugin"], 1,
        "--user-dir: there is no folder DATA/plugin",
    ),
    "another plugin of the same name": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--user-dir", "DATA/pyramidion_fairseq"], 1,
        "Failed to import --user-dir=DATA/pyramidion_fairseq because the corresponding module name",
    ),
    "no batch size": (
        "train", ["DATA/data-bin", *USER_DIR, *ARCH, *TASK, *LR, "--optimizer", "adam", "--cpu"], 1,
        "how large is a batch? --batch-size 2 (documents) or --max-tokens 16384 (padded tokens) is needed",
    ),
    "missing restore file": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--restore-file", "DATA/no.pt"], 1,
        "--restore-file DATA/no.pt does not exist: give the path of a checkpoint, or omit the option to start",
    ),
    "restore file that is a folder": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--restore-file", "DATA/data-bin"], 1,
        "--restore-file DATA/data-bin is a folder, not a checkpoint: give the path of a checkpoint, or omit",
    ),
    "missing restore file with a suffix": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--restore-file", "MODEL", "--checkpoint-suffix=-x"], 1,
        "checkpoint_best-x.pt does not exist: give the path of a checkpoint, or omit the option",
    ),
    "missing continue-once file": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--continue-once", "DATA/no.pt"], 1,
        "--continue-once DATA/no.pt does not exist: give the path of a checkpoint, or omit the option",
    ),
    "empty update-freq": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--update-freq", ""], 1,
        "--update-freq []: must be 1 or more",
    ),
    "update-freq 0": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--update-freq", "0"], 1,
        "--update-freq [0]: must be 1 or more",
    ),
    "ROUGE metric without eval-rouge": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--best-checkpoint-metric", "rouge2"], 1,
        "--best-checkpoint-metric rouge2 needs --eval-rouge",
    ),
    "ROUGE metric that is minimized": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--eval-rouge", "--best-checkpoint-metric", "rouge2"], 1,
        "--best-checkpoint-metric rouge2 needs --maximize-best-checkpoint-metric: otherwise the lowest is kept",
    ),
    "a metric that is not logged": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--best-checkpoint-metric", "nll_loss"], 1,
        "--best-checkpoint-metric nll_loss: validation logs loss, ppl",
    ),
    "a misspelt metric": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--eval-rouge", "--maximize-best-checkpoint-metric",
         "--best-checkpoint-metric", "ROUGE-2"], 1,
        "--best-checkpoint-metric ROUGE-2: validation logs loss, ppl, rouge1, rouge2, rougeL, rougeLsum; did you mean "
        "rouge2?",
    ),
    "shared embeddings of two widths": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--decoder-embed-dim", "16"], 1,
        "--share-all-embeddings, which named architectures set, needs the same --encoder-embed-dim and",
    ),
    "fp16 with bf16": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--fp16", "--bf16"], 1,
        "--fp16 and --bf16 exclude each other",
    ),
    "validate-interval 0": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--validate-interval", "0"], 1,
        "--validate-interval must be at least 1; to skip it, use --disable-validation",
    ),
    "save-interval 0": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--save-interval", "0"], 1,
        "--save-interval must be at least 1; to save nothing, use --no-save",
    ),
    "a dropout of 1.5": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--dropout", "1.5"], 1,
        "--dropout 1.5: must be from 0 to 1",
    ),
    "max-tokens below every document": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--max-tokens", "3", "--disable-validation"], 1,
        "no document fits into a batch: a larger --max-tokens",
    ),
    "max-tokens-valid below a document": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--max-tokens-valid", "3"], 1,
        "--max-tokens-valid 3 (by default --max-tokens): a document or summary of valid has 64 tokens: use "
        "--max-tokens-valid 64 or more",
    ),
    "max-tokens below a document in generation": (
        "generate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--max-tokens", "3"], 1,
        "a document or summary has more tokens than a batch may have: a larger --max-tokens, or --batch-size instead",
    ),
    "inverse_sqrt without warm-up": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--lr-scheduler", "inverse_sqrt", "--warmup-updates", "0"], 1,
        "--warmup-updates 0: must be 1 or more with --lr-scheduler inverse_sqrt",
    ),
    "asynchronous checkpoints without iopath": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--write-checkpoints-asynchronously"], 1,
        "--write-checkpoints-asynchronously needs iopath: pip install iopath, or omit it",
    ),
    "batch buckets without numpy 1": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--num-batch-buckets", "2"], 1,
        "--num-batch-buckets needs numpy 1: to pad to fewer lengths, use --required-seq-len-multiple instead",
    ),
    "polynomial_decay without total updates": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--lr-scheduler", "polynomial_decay"], 1,
        "--total-num-update is needed with this --lr-scheduler",
    ),
    "cosine without a period": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--lr-scheduler", "cosine", "--max-update", "0"], 1,
        "--lr-scheduler cosine needs --max-update, or --lr-period-updates",
    ),
    "tri_stage without stages": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--lr-scheduler", "tri_stage"], 1,
        "--lr-scheduler tri_stage needs --warmup-steps, --hold-steps and --decay-steps, or --phase-ratio",
    ),
    "cosine warm-up as long as training": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--lr-scheduler", "cosine", "--warmup-updates", "1"], 1,
        "--warmup-updates 1 must be less than --max-update 1, or --lr-scheduler cosine cannot decay",
    ),
    "polynomial_decay warm-up longer than training": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--lr-scheduler", "polynomial_decay", "--warmup-updates", "50",
         "--total-num-update", "20"], 1,
        "--warmup-updates 50 must be less than --total-num-update 20, or --lr-scheduler polynomial_decay",
    ),
    "epoch2lr with unquoted epochs": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--lr-scheduler", "manual", "--epoch2lr", "{1: 0.01}"], 1,
        "--epoch2lr {1: 0.01}: must be a dictionary from quoted numbers to learning rates, such as --epoch2lr ",
    ),
    "several learning rates with inverse_sqrt": (
        "train", ["DATA/data-bin", *START, *TASK, "--lr", "0.1,0.01", "--cpu", "--lr-scheduler", "inverse_sqrt"], 1,
        "several learning rates (--lr A,B), one for each epoch, are for --lr-scheduler fixed: give one",
    ),
    "triangular with max-lr below lr": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--lr-scheduler", "triangular", "--max-lr", "0.001"], 1,
        "--lr-scheduler triangular needs a --max-lr above --lr",
    ),
    "pass_through with adam": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--lr-scheduler", "pass_through"], 1,
        "--lr-scheduler pass_through is for optimizers with a schedule of their own",
    ),
    "adafactor with relative steps": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--optimizer", "adafactor", "--relative-step"], 1,
        "--optimizer adafactor: with --relative-step it takes no learning rate, and fairseq always gives one",
    ),
    "adafactor warm-up without relative steps": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--optimizer", "adafactor", "--warmup-init"], 1,
        "--optimizer adafactor: --warmup-init needs --relative-step",
    ),
    "cpu_adam without DeepSpeed": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--optimizer", "cpu_adam"], 1,
        "Please install DeepSpeed: pip install deepspeed",
    ),
    "unknown post-process": (
        "generate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--post-process", "unigram"], 1,
        "--post-process (--remove-bpe) takes sentencepiece, wordpiece, letter, silence, _EOW, subword_nmt or none",
    ),
    "wrong dataset-impl": (
        "generate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--dataset-impl", "lazy"], 1,
        "the data is not of this --dataset-impl: leave the option out",
    ),
    "checkpoint path that is a folder": (
        "generate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "DATA", "--cpu"], 1, "DATA: Is a directory",
    ),
    "results path that is too long": (  # an OSError without a subclass, as of a read-only file system
        "generate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--results-path", "x" * 300], 1,
        "x: File name too long",
    ),
    "sentencepiece without its model": (
        "generate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--bpe", "sentencepiece"], 1,
        "--bpe sentencepiece needs --sentencepiece-model FILE",
    ),
    "missing sentencepiece model": (
        "generate", ["DATA/data-bin", *USER_DIR, *TASK, "--path", "MODEL", "--cpu", "--bpe", "sentencepiece",
                     "--sentencepiece-model", "DATA/no.model"], 1,
        "--sentencepiece-model DATA/no.model does not exist",
    ),
    "missing finetune-from-model": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--finetune-from-model", "DATA/no.pt"], 1,
        "--finetune-from-model DATA/no.pt does not exist: train that model first",
    ),
    "finetune-from-model that is a folder": (
        "train", ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--finetune-from-model", "DATA/data-bin"], 1,
        "--finetune-from-model DATA/data-bin is a folder, not a checkpoint: train that model first",
    ),
    "finetune-from-model with restore-file": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--finetune-from-model", "MODEL", "--restore-file", "MODEL"], 1,
        "--finetune-from-model excludes --restore-file: it loads only the weights of its file, and resets the rest",
    ),
    "finetune-from-model with reset-optimizer": (
        "train",
        ["DATA/data-bin", *START, *TASK, *LR, "--cpu", "--finetune-from-model", "MODEL", "--reset-optimizer"], 1,
        "--finetune-from-model excludes --reset-optimizer: it loads only the weights of its file",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    (folder / "data-bin").mkdir()
    write_corpus(folder / "data-bin", words=40)
    write_checkpoint(folder / "data-bin")
    (folder / "pyramidion_fairseq").mkdir()
    return folder


def check_line(done, status, message):
    """Check for one error line with the message, the exit status, and no traceback."""
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith(("INFO:", "DEBUG:"))]
    assert len(lines) == 1 and "error: " in lines[0] and message in lines[0], done.stderr
    assert done.returncode == status


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_errors_with_a_remedy(command, data, tmp_path, name):
    stock, words, status, message = MISTAKES[name]
    words = [word.replace("MODEL", "DATA/data-bin/checkpoint_best.pt").replace("DATA", str(data)) for word in words]
    save = ["--save-dir", tmp_path / "checkpoints"] if stock == "train" else []
    done = command(stock, *words, *save, check=False)
    check_line(done, status, message.replace("DATA", str(data)))
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("stock", ["generate", "validate"])
def test_model_overrides_of_known_options_are_accepted(command, data, stock):
    words = [data / "data-bin", *USER_DIR, *TASK, "--path", data / "data-bin/checkpoint_best.pt", "--cpu"]
    overrides = "{'dropout': 0.2, 'model': {'activation_dropout': 0.1}, 'seed': 5}"
    command(stock, *words, "--batch-size", "2", "--model-overrides", overrides)


@pytest.mark.parametrize("stock", ["generate", "validate"])
def test_model_overrides_that_add_parameters_are_warned_of(command, data, stock):
    path = data / "data-bin/checkpoint_best.pt"
    words = [data / "data-bin", *USER_DIR, *TASK, "--path", path, "--cpu", "--batch-size", "2"]
    line = f"{path}: new gate of the pointer: the checkpoint has none, it is to be trained; it is used untrained"
    done = command(stock, *words, "--model-overrides", "{'pointer': True}")
    assert (done.stdout + done.stderr).count(line) == 1
    done = command(stock, *words)
    assert "untrained" not in done.stdout + done.stderr


def test_batch_size_0_with_max_tokens_trains(command, data, tmp_path):
    words = [data / "data-bin", *TASK, *TRAIN, "--batch-size", "0", "--max-tokens", "4000", "--max-update", "1"]
    command("train", *words, "--save-dir", tmp_path)
    assert (tmp_path / "checkpoint_last.pt").exists()


def test_save_interval_before_validate_after_updates_is_warned_of(command, data, tmp_path):
    words = [data / "data-bin", *TASK, *TRAIN, "--max-update", 3, "--save-dir", tmp_path]
    done = command("train", *words, "--save-interval-updates", 1, "--validate-after-updates", 2)
    line = "--validate-after-updates 2: until then, fairseq saves no checkpoint within an epoch, despite"
    assert (done.stdout + done.stderr).count(line) == 1
    assert sorted(path.name for path in tmp_path.glob("checkpoint_?_?.pt")) == [
        "checkpoint_1_2.pt",
        "checkpoint_1_3.pt",
    ]


def test_torchrun_without_distributed_world_size_is_refused(data, tmp_path):
    words = [data / "data-bin", *START, *TASK, *LR, "--cpu", "--save-dir", tmp_path]
    torchrun = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    done = forked.run(forked.fairseq_command("train"), ["fairseq-train", *words], environment=torchrun)
    check_line(done, 1, "torchrun has started 2 processes, and each would train its own model in")


def test_torchrun_with_another_world_size_is_refused(data, tmp_path):
    """Check that the number of processes must agree; otherwise an update would have another number of documents."""
    words = [data / "data-bin", *START, *TASK, *LR, "--cpu", "--distributed-world-size", "4", "--save-dir", tmp_path]
    torchrun = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    done = forked.run(forked.fairseq_command("train"), ["fairseq-train", *words], environment=torchrun)
    check_line(done, 1, "--distributed-world-size 4 (GPUS= and NODES= of a recipe), but torchrun started 2 processes")


HYDRA = {
    "default learning rate with adam": ({"optimization.lr": None}, "optimization.lr=[5e-4]"),
    "a misspelt architecture": (
        {"+model._name": "deeppyramidon"}, "architecture: there is no 'deeppyramidon': did you mean deeppyramidion?",
    ),
    "a misspelt task": (
        {"+task._name": "long_document_summarisation"},
        "task: there is no 'long_document_summarisation': did you mean long_document_summarization?",
    ),
    "a single beta": ({"+optimizer.adam_betas": "[0.9]"}, "--adam-betas [0.9]: must be two numbers in [0, 1)"),
    "empty learning rate": ({"optimization.lr": "[]"}, "--lr []: must be a positive number"),
    "no batch size": ({"dataset.batch_size": None}, "how large is a batch? --batch-size 2 (documents)"),
    "no task": ({"+task._name": None}, "no task is given: with Hydra, use +task._name=long_document_summarization"),
}  # fmt: skip


@pytest.mark.parametrize("name", HYDRA)
def test_mistakes_with_hydra_are_one_line_errors(command, data, tmp_path, name):
    changes, message = HYDRA[name]
    words = {
        "common.user_dir": f"{ROOT}/pyramidion_fairseq", "+model._name": "deeppyramidion", "common.cpu": "true",
        "+task._name": "long_document_summarization", "+task.data": f"{data}/data-bin", "criterion": "cross_entropy",
        "+model.encoder_embed_dim": 8, "+model.decoder_embed_dim": 8, "dataset.batch_size": 6, "optimizer": "adam",
        "lr_scheduler": "fixed", "dataset.num_workers": 0, "optimization.lr": "[5e-4]", "optimization.max_update": 1,
        "hydra.run.dir": tmp_path, "checkpoint.save_dir": tmp_path, **changes,
    }  # fmt: skip
    given = (f"{option}={value}" for option, value in words.items() if value is not None)
    # Without a task, Hydra's composition depends on earlier imports, so that case runs in a new process.
    done = command("hydra-train", *given, check=False, fresh=name == "no task")
    check_line(done, 1, message)


def test_sgd_accepts_the_default_rate_and_ignores_a_missing_finetune_model(command, data, tmp_path):
    words = ["train", data / "data-bin", *START, *TASK, "--cpu", "--save-dir", tmp_path, "--disable-validation"]
    assert (command(*words, "--optimizer", "sgd").returncode, (tmp_path / "checkpoint_last.pt").exists()) == (0, True)
    # a continued run ignores the model it was fine-tuned from, and says so
    gone = ["--finetune-from-model", tmp_path / "gone.pt"]
    log = command(*words, "--optimizer", "sgd", "--max-update", "2", *gone).stdout
    assert f"--finetune-from-model {gone[1]} is ignored: the run in {tmp_path} continues" in log


def test_correct_training_runs_and_refuses_to_continue_with_another_optimizer(command, data, tmp_path):
    words = ["train", data / "data-bin", *TASK, *TRAIN, "--save-dir", tmp_path]
    command(*words, "--max-update", 1)
    assert (tmp_path / "checkpoint_last.pt").exists()
    # a run cannot be continued with another optimizer
    done = command(*words, "--max-update", 2, "--optimizer", "fused_adamw", check=False)
    check_line(done, 1, "the checkpoint to continue is of another --optimizer: take the same, or with")


def test_empty_save_dir_is_a_one_line_error(command, data):
    """Check an empty --save-dir, as from an unset variable of a script."""
    done = command("train", data / "data-bin", *START, *TASK, *LR, "--cpu", "--save-dir", "", check=False)
    check_line(done, 1, "error: --save-dir is empty: give a folder for the checkpoints")


def test_position_behind_the_last_batch_is_a_one_line_error(command, data, tmp_path):
    words = ["train", data / "data-bin", *TASK, *TRAIN, "--save-dir", tmp_path, "--save-interval-updates", 5]
    command(*words, "--max-update", 5)
    done = command(*words, "--max-update", 9, "--batch-size", 40, check=False)
    check_line(done, 1, "the checkpoint to continue is of a place in the data behind the last batch")
    command(*words, "--max-update", 9, "--batch-size", 40, "--reset-dataloader")


@pytest.mark.skipif(importlib.util.find_spec("fairscale") is not None, reason="fairscale is installed")
def test_fully_sharded_without_fairscale_is_a_one_line_error(command, data, tmp_path):
    words = ["train", data / "data-bin", *TASK, *TRAIN, "--save-dir", tmp_path, "--ddp-backend", "fully_sharded"]
    check_line(command(*words, check=False), 1, "Please install fairscale with: pip install fairscale")


def test_validate_help_needs_no_task():
    done = forked.run(forked.fairseq_command("validate"), ["fairseq-validate", *USER_DIR, "--help"])
    assert done.returncode == 0 and "--valid-subset" in done.stdout


def test_max_tokens_valid_below_a_document_is_refused_only_for_our_datasets(dictionary):
    """Check that stock datasets pass: with ``--skip-invalid-size-inputs-valid-test`` other documents may fit."""
    cfg, documents = argparse.Namespace(dataset=argparse.Namespace(max_tokens_valid=2)), [torch.tensor([5, 6, 2])]
    for kind in (LanguagePairDataset, DocumentPairDataset):
        task = argparse.Namespace(datasets={"valid": kind(documents, [3], dictionary)})
        refused = pytest.raises(errors.PyramidionError, match="--max-tokens-valid 3 or more")
        with refused if kind is DocumentPairDataset else nullcontext():
            mistakes.check_validation(cfg, task)


def test_troubleshooting_page_has_every_listed_message():
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    source = "".join(path.read_text("utf-8") for path in (ROOT / "pyramidion_fairseq").rglob("*.py"))
    for message in (
        "is not binarised data",
        "there is no data folder",
        "did you mean",
        "needs --task long_document_summarization",
        "need a GPU each, and ",
        "each would train its own model",
        " needs a GPU, and ",
        "the learning rate is fairseq's default of ",
        "does not exist",
        "because tensorboard is not installed",
        "are outside [0, 1]",
        "lines are empty and score 0",
    ):
        assert message in page and message in source, message


FATS = "--mode: there is no 'fats': did you mean fast?"


@pytest.mark.parametrize(
    "message, expected",
    [
        ("argument --mode: invalid choice: 'fats' (choose from 'fast', 'slow')", FATS),
        ("argument --mode: invalid choice: fats (choose from fast, slow)", FATS),
        (
            "argument --mode: invalid choice: 'x' (choose from 'fast')",
            "--mode: there is no 'x': --help and docs/options.md list the names",
        ),
        ("argument --mode: expected one argument", "argument --mode: expected one argument"),
        ("unrecognized arguments: a --zzzzzzzzzz 3", "unrecognized arguments: a --zzzzzzzzzz 3"),
    ],
)  # fmt: skip
def test_explain_message_understands_argparse_of_every_python(message, expected):
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=["fast", "slow"])
    assert mistakes.explain_message(parser, message) == expected


@pytest.mark.parametrize(
    "program, expected",
    [
        ("/bin/fairseq-train", True),
        (f"lib{os.sep}fairseq_cli{os.sep}train.py", True),
        ("my-train.py", False),
        ("", False),
    ],
)
def test_is_fairseq_command_recognises_the_programs(monkeypatch, program, expected):
    monkeypatch.setattr(sys, "argv", [program])
    assert errors.is_fairseq_command() is expected


def test_excepthook_shortens_errors_of_spawned_processes(monkeypatch, capsys):
    class ProcessRaisedException(Exception):  # noqa: N818 -- as torch calls it
        pass

    monkeypatch.setattr(sys, "argv", ["fairseq-train"])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    errors.install_excepthook()
    text = "\n\n-- Process 1 terminated\nTraceback\npyramidion_fairseq.tasks.diagnosis.NotFiniteError: NaN first\n"
    sys.excepthook(ProcessRaisedException, ProcessRaisedException(text), None)
    assert capsys.readouterr().err == "error: NaN first\n"
    for foreign in (
        ProcessRaisedException("Traceback\nValueError: x"), AssertionError("x is no --option"), ValueError("--x"),
    ):  # fmt: skip
        sys.excepthook(type(foreign), foreign, None)
        assert f"{type(foreign).__name__}: {foreign}" in capsys.readouterr().err
