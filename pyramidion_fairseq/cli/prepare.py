"""``pyramidion-prepare``: prepare a corpus for fairseq-train."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import signal
import sys

from ..prepare.errors import PrepareError
from ..prepare.options import parse_options
from .common import open_closed_streams

logger = logging.getLogger("prepare")

#: Warm-up updates of the paper.
WARMUP = 5000


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit status: 0, 1 (error, one line on stderr), 130 or 143 (interrupted)."""
    open_closed_streams()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        args = parse_options(arguments)
    except SystemExit as ended:  # --help has printed to standard output
        return print_whole("") if not ended.code else int(ended.code)
    from ..prepare.pipeline import prepare  # imports sentencepiece, which --help does not need

    try:
        text = prepare(args)
    except PrepareError as error:
        sys.stderr.write("error: {}\n".format(" ".join(str(error).split())))
        return 1
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or args.dest}: {error.strerror or error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: run the same command again to continue\n")
        return 128 + (received[0] if received else signal.SIGINT)
    status = print_whole(text)
    if not status:
        if args.labels is None:
            _warn_if_few_documents(os.path.join(args.dest, "text", "train.source"))
        what = "the paper's model" if args.labels is None else "a classifier"
        logger.info(f"done; train {what} on one GPU or a CPU with:")
        words = training_command(args.dest) if args.labels is None else classifier_command(args)
        sys.stderr.write(shlex.join(words).encode("utf-8", "backslashreplace").decode() + "\n")
    return status


def _warn_if_few_documents(path: str) -> None:
    """Warn if the paper's warm-up would take more than a hundred epochs of a small corpus."""
    with open(path, "rb") as file:
        documents = sum(1 for _ in file)
    updates = -(-documents // 256)
    if 100 * updates < WARMUP:
        logger.warning(
            f"with {documents:,} training documents, an epoch has {updates} updates of 256 documents, but the warm-up "
            f"takes {WARMUP:,} updates; for a small corpus, use --update-freq 4 --warmup-updates 100"
        )


def classifier_command(args: argparse.Namespace) -> list[str]:
    """Return the command that trains lsg_roberta_base from scratch; for fine-tuning see docs/classification.md."""
    words = ["fairseq-train", os.path.join(args.dest, "data-bin"), "--user-dir", _plugin()]
    words += ["--arch", "lsg_roberta_base", "--task", "sentence_prediction", "--criterion", "sentence_prediction"]
    words += ["--init-token", "0", *(["--separator-token", "2"] if args.second_field else [])]
    words += ["--shorten-method", "truncate"]
    if args.regression:
        words += ["--regression-target", "--num-classes", "1"]
    else:
        with open(os.path.join(args.dest, "data-bin", "label", "dict.txt"), encoding="utf-8", newline="\n") as file:
            words += ["--num-classes", str(sum(1 for _ in file))]
        words += ["--best-checkpoint-metric", "accuracy", "--maximize-best-checkpoint-metric"]
    words += ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--adam-eps", "1e-6", "--weight-decay", "0.1"]
    words += ["--lr", "1e-5", "--lr-scheduler", "polynomial_decay", "--total-num-update", "10000"]
    words += ["--warmup-updates", "600", "--max-update", "10000", "--clip-norm", "1.0"]
    words += ["--batch-size", "4", "--update-freq", "8", "--required-batch-size-multiple", "1"]
    words += ["--save-dir", os.path.join("checkpoints", os.path.basename(os.path.abspath(args.dest)))]
    if not os.path.exists(os.path.join(args.dest, "text", "valid.source")):
        words.append("--disable-validation")
    return words


def _plugin() -> str:
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return "pyramidion_fairseq" if os.path.abspath("pyramidion_fairseq") == folder else folder


def training_command(dest: str) -> list[str]:
    """Return README.md's training command of DeepPyramidion: 256 documents per update on one device."""
    words = ["fairseq-train", os.path.join(dest, "data-bin"), "--user-dir", _plugin()]
    words += ["--task", "long_document_summarization", "--arch", "deeppyramidion", "--criterion", "cross_entropy"]
    words += ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--weight-decay", "0.1"]
    words += ["--lr", "5e-4", "--lr-scheduler", "fixed", "--warmup-updates", str(WARMUP)]
    words += ["--batch-size", "2", "--update-freq", "128", "--patience", "7", "--keep-last-epochs", "2"]
    words += ["--save-dir", os.path.join("checkpoints", os.path.basename(os.path.abspath(dest)))]
    if not os.path.exists(os.path.join(dest, "text", "valid.source")):
        words.append("--disable-validation")
    return words


def print_whole(text: str) -> int:
    """Write the text to standard output and return the exit status: 1 if it cannot be written."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # the reader closed the pipe, as head does
        pass
    except OSError as error:
        sys.stderr.write(f"error: cannot write to standard output: {error.strerror or 'it is closed'}\n")
    with contextlib.suppress(OSError):  # otherwise Python flushes again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
