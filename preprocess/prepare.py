"""From a corpus to data that fairseq-train takes, in one command; ``prepare.py --help`` lists the options.

read -> clean -> sentencepiece -> encode -> fairseq-preprocess -> report. Each stage is kept when nothing that it
depends on has changed, so that the same command continues an interrupted run.
"""

import argparse
import contextlib
import importlib.util
import logging
import os
import shlex
import signal
import sys
from typing import Any, Dict, List, Optional

import stage_results
import streams
from binarise_stage import binarise_stage, totals
from collector import SKIPPED
from corpus import SPLITS, sources
from encode_stage import encode_stage
from prepare_errors import PrepareError
from prepare_options import parse_options
from read_stage import SIDES, read_stage
from report_stage import report_stage, versions
from vocabulary_stage import MODEL, load_model, vocabulary_stage
from workspace import Workspace

logger = logging.getLogger("prepare")
READ_OPTIONS = ("lowercase", "seed", "valid_fraction", "test_fraction", "max_documents", "max_bad_fraction", "strict")
TRAINING_OPTIONS = ("vocab_size", "spm_type", "spm_sample", "seed", "user_symbols", "lowercase")


def options(args: argparse.Namespace, names: Any) -> Dict[str, Any]:
    """Some of the options, by name."""
    return {name: getattr(args, name) for name in names}


def read(args: argparse.Namespace, space: Workspace) -> Dict[str, Any]:
    """Stage 1; what was left out is there to look at even where it was too much."""
    corpus = sources(args)

    def build(folder: str) -> Dict[str, Any]:
        try:
            return read_stage(args, corpus, folder)
        except PrepareError:
            space.publish_only("read", folder, [SKIPPED])
            raise

    inputs = [[source.split, source.unique, source.reader.signature()] for source in corpus]
    return space.run("read", dict(options(args, READ_OPTIONS), inputs=inputs), build, stage_results.READ)


def vocabulary(args: argparse.Namespace, space: Workspace, text: Dict[str, Any]) -> Dict[str, Any]:
    """Stage 2."""
    count = text["result"]["documents"]["train"]
    if args.spm_model:
        load_model(args.spm_model, args.spm_model)
        depends: Dict[str, Any] = {"model": streams.signature(args.spm_model)}
    else:
        depends = dict(options(args, TRAINING_OPTIONS), text=text["digest"], version=versions()["sentencepiece"])
    build = lambda folder: vocabulary_stage(args, space.path("text"), count, folder)  # noqa: E731
    return space.run("sentencepiece", depends, build, stage_results.VOCABULARY)


def prepare(args: argparse.Namespace) -> str:
    """Run the stages; returns the report's table. Raises PrepareError."""
    for module in ("sentencepiece", "fairseq_cli"):
        if importlib.util.find_spec(module) is None:
            raise PrepareError("{} is not installed for {}".format(module.replace("_cli", ""), sys.executable))
    space = Workspace(args.dest)
    text = read(args, space)
    documents = text["result"]["documents"]
    if "valid" not in documents:
        logger.warning("there is no validation split: fairseq-train will need --disable-validation")
    model = vocabulary(args, space, text)
    names = [(f"{split}.{side}", documents[split]) for split in SPLITS for side in SIDES if split in documents]
    encoded = space.run(
        "encode",
        {"text": text["digest"], "model": model["digest"]},
        lambda folder: encode_stage(space.path(MODEL), space.path("text"), names, args.workers, folder),
        {name: stage_results.is_of_lengths for name, _ in names},
    )
    lengths = encoded["result"]
    expected = {name: totals(lengths[name]["lengths"]) for name, _ in names}
    binarised = space.run(
        "binarise",
        {"encoded": encoded["digest"], "model": model["digest"], "version": versions()["fairseq"]},
        lambda folder: binarise_stage(space.path(MODEL), space.path("encoded"), expected, args.workers, folder),
        stage_results.BINARISED,
    )
    limits = {"source": args.max_source_positions, "target": args.max_target_positions}
    about = {
        "arguments": options(args, sorted(set(vars(args)) - {"dest", "workers"})),
        "vocabulary": binarised["result"]["dictionary"],
        "pieces": model["result"]["pieces"],
        **{name: text["result"][name] for name in ("skipped", "bad", "replaced")},
    }
    ordered = {name: lengths[name] for name, _ in names}
    report = space.run(
        "report",
        {"about": about, "limits": limits, "lengths": lengths, "versions": versions()},
        lambda folder: report_stage(ordered, limits, about, folder),
        stage_results.REPORT,
    )
    return report["result"]["table"]


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the program; returns the exit status: 0, 1 (an error, one line on stderr), 130 or 143 (interrupted)."""
    if sys.stdout is None:  # closed: what stands in its place says so when it is written to
        sys.stdout = open(os.devnull)  # noqa: SIM115 - until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    received: List[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        args = parse_options(arguments)
    except SystemExit as ended:  # with --help on standard output
        return print_whole("") if not ended.code else int(ended.code)
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
        logger.info("done; this trains the paper's model on it, on one GPU or a CPU:")
        sys.stderr.write(shlex.join(training_command(args.dest)).encode("utf-8", "backslashreplace").decode() + "\n")
    return status


def training_command(dest: str) -> List[str]:
    """The command line that trains DeepPyramidion as README.md says, an update of 256 documents on one device."""
    plugin = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "pyramidion_fairseq")
    words = ["fairseq-train", os.path.join(dest, "data-bin")]
    words += ["--user-dir", "pyramidion_fairseq" if os.path.abspath("pyramidion_fairseq") == plugin else plugin]
    words += ["--task", "long_document_summarization", "--arch", "deeppyramidion", "--criterion", "cross_entropy"]
    words += ["--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--weight-decay", "0.1"]
    words += ["--lr", "5e-4", "--lr-scheduler", "fixed", "--warmup-updates", "5000"]
    words += ["--batch-size", "2", "--update-freq", "128", "--patience", "7", "--keep-last-epochs", "2"]
    words += ["--save-dir", os.path.join("checkpoints", os.path.basename(os.path.abspath(dest)))]
    if not os.path.exists(os.path.join(dest, "text", "valid.source")):
        words.append("--disable-validation")
    return words


def print_whole(text: str) -> int:
    """Write to standard output all that is to go there; returns the exit status."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # the reader has had enough
        pass
    except OSError as error:
        sys.stderr.write(f"error: standard output cannot be written: {error.strerror or 'it is closed'}\n")
    with contextlib.suppress(OSError):  # else Python tries once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    sys.exit(main())
