"""The stages of ``pyramidion-prepare``, from a corpus to data for fairseq-train; its ``--help`` lists the options.

read -> clean -> sentencepiece -> encode -> fairseq-preprocess -> report. A stage whose inputs and options have not
changed is not run again, so that the same command continues an interrupted run.
"""

import argparse
import importlib.util
import logging
import os
import sys
from typing import Any, Dict, List, Tuple

from . import stage_results, streams
from .binarise_stage import binarise_labelled_stage, binarise_stage, totals
from .collector import SKIPPED
from .corpus import SPLITS, sources
from .encode_stage import encode_stage
from .errors import PrepareError
from .join_stage import join_stage, parts
from .labels import Labels, count_labels, described, labels_of, text_sides
from .read_stage import read_stage
from .report_stage import report_stage, versions
from .vocabulary_stage import MODEL, load_model, vocabulary_stage
from .workspace import Workspace

logger = logging.getLogger("prepare")
#: (``split.side``, number of documents) of each file.
Names = List[Tuple[str, int]]
READ_OPTIONS = ("lowercase", "seed", "valid_fraction", "test_fraction", "max_documents", "max_bad_fraction", "strict")
#: Options that are part of a stage's key only if given, so that folders made before they existed stay valid.
LABEL_OPTIONS = ("labels", "second_field", "regression")
TRAINING_OPTIONS = ("vocab_size", "spm_type", "spm_sample", "seed", "user_symbols", "lowercase")


def options(args: argparse.Namespace, names: Any) -> Dict[str, Any]:
    """Return the options with the given names."""
    return {name: getattr(args, name) for name in names}


def given_labels(args: argparse.Namespace) -> Dict[str, Any]:
    """Return the label options, or {} if the corpus has no labels."""
    return options(args, LABEL_OPTIONS) if args.labels is not None else {}


def read(args: argparse.Namespace, space: Workspace) -> Dict[str, Any]:
    """Run stage 1; ``skipped.jsonl`` is kept even if the stage fails."""
    corpus = sources(args)
    for source in corpus:
        for name in ("path", "documents", "summaries"):
            space.refuse_own(getattr(source.reader, name, ""))

    def build(folder: str) -> Dict[str, Any]:
        try:
            return read_stage(args, corpus, folder)
        except PrepareError:
            space.publish_only("read", folder, [SKIPPED])
            raise

    inputs = [[source.split, source.unique, source.reader.signature()] for source in corpus]
    depends = {**options(args, READ_OPTIONS), **given_labels(args), "inputs": inputs}
    if args.shard:
        depends["shard"] = str(args.shard)
    return space.run("read", depends, build, stage_results.READ)


def vocabulary(args: argparse.Namespace, space: Workspace, text: Dict[str, Any]) -> Dict[str, Any]:
    """Run stage 2, the sentencepiece model."""
    count = text["result"]["documents"]["train"]
    if args.spm_model:
        load_model(args.spm_model, args.spm_model)
        depends: Dict[str, Any] = {"model": streams.signature(args.spm_model)}
    else:
        depends = dict(options(args, TRAINING_OPTIONS), text=text["digest"], version=versions()["sentencepiece"])
        depends.update(given_labels(args))
    build = lambda folder: vocabulary_stage(args, space.path("text"), count, folder)  # noqa: E731
    return space.run("sentencepiece", depends, build, stage_results.VOCABULARY)


def encode(
    args: argparse.Namespace, space: Workspace, text: Dict[str, Any], model: Dict[str, Any], names: Names
) -> Dict[str, Any]:
    """Run stage 3, the encoding."""
    return space.run(
        "encode",
        {"text": text["digest"], "model": model["digest"]},
        lambda folder: encode_stage(space.path(MODEL), space.path("text"), names, args.workers, folder),
        {name: stage_results.is_of_lengths for name, _ in names},
    )


def join(args: argparse.Namespace, space: Workspace) -> Tuple[Dict[str, Any], Dict[str, Any], Dict[str, Any]]:
    """Join shards instead of running stages 1 to 3; return the stamps of these stages."""
    shards = parts(args.join)
    depends = {"shards": [[shard.read["digest"], shard.encoded["digest"]] for shard in shards]}
    joined = space.run("join", depends, lambda folder: join_stage(shards, folder), stage_results.JOINED)
    args.spm_model = os.path.join(shards[0].folder, MODEL)
    text, encoded = ({**joined, "result": joined["result"][name]} for name in ("read", "encoded"))
    return text, vocabulary(args, space, text), encoded


def names_of(args: argparse.Namespace, documents: Dict[str, int]) -> Names:
    """Return the text files of a corpus and the number of documents in each."""
    sides = text_sides(args)
    return [(f"{split}.{side}", documents[split]) for split in SPLITS for side in sides if split in documents]


def prepare(args: argparse.Namespace) -> str:
    """Run all stages and return the table of the report.

    Raises:
        PrepareError: a stage failed.
    """
    for module in ("sentencepiece", "fairseq_cli"):
        if importlib.util.find_spec(module) is None:
            raise PrepareError("{} is not installed for {}".format(module.replace("_cli", ""), sys.executable))
    space = Workspace(args.dest)
    if args.join:
        text, model, encoded = join(args, space)
    else:
        text = read(args, space)
        model = vocabulary(args, space, text)
        encoded = encode(args, space, text, model, names_of(args, text["result"]["documents"]))
    documents = text["result"]["documents"]
    names = names_of(args, documents)
    if "valid" not in documents:
        logger.warning("there is no validation split: train with --disable-validation")
    lengths = encoded["result"]
    expected = {name: totals(lengths[name]["lengths"]) for name, _ in names}
    kind = labels_of(args)
    counts = count_labels(space.path("text"), list(documents)) if kind is Labels.CLASSES else {}

    def binarise(folder: str) -> Dict[str, Any]:
        if kind is Labels.NONE:
            return binarise_stage(space.path(MODEL), space.path("encoded"), expected, args.workers, folder)
        return binarise_labelled_stage(
            space.path(MODEL), space.path(""), expected, list(counts) or None, args.workers, folder
        )

    binarised = space.run(
        "binarise",
        {
            **{"encoded": encoded["digest"], "model": model["digest"], "version": versions()["fairseq"]},
            **({"labels": text["digest"], **given_labels(args)} if kind is not Labels.NONE else {}),
        },
        binarise,
        stage_results.BINARISED,
    )
    sides = text_sides(args)
    limits = {side: args.max_target_positions if side == "target" else args.max_source_positions for side in sides}
    left_out = {"dest", "workers", *(LABEL_OPTIONS if kind is Labels.NONE else ())}
    about = {
        "arguments": options(args, sorted(set(vars(args)) - left_out)),
        **({"labels": described(counts) if counts else "numbers"} if kind is not Labels.NONE else {}),
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
