"""The options of pyramidion-prepare."""

import argparse
import os
from typing import List, Optional

from ..errors import PyramidionError
from ..utils.shards import Shard, parse_shard
from .cleaning import clean
from .dictionary_lines import FAIRSEQ_SPECIALS, UNKNOWN

#: The labels that --python-docs has.
PACKAGE = "package"
EXAMPLES = """\
examples:
  pyramidion-prepare data/arxiv --input arxiv-dataset.zip
  pyramidion-prepare data/mine --train a.jsonl.gz --valid b.jsonl.gz --test c.jsonl.gz
  pyramidion-prepare data/mine --input all.csv --document-field body --summary-field tldr
  pyramidion-prepare data/mine --train docs.txt:summaries.txt --format text
  pyramidion-prepare data/pubmed --huggingface pubmed
  pyramidion-prepare data/pydocs --python-docs --vocab-size 8000
  pyramidion-prepare data/part2 --input all.jsonl --spm-model sentencepiece.model --shard 2/4
  pyramidion-prepare data/whole --join data/part1 data/part2 data/part3 data/part4
  pyramidion-prepare data/topics --input all.jsonl --document-field body --labels topic
"""


def fraction(text: str) -> float:
    """Return a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def positive(text: str) -> int:
    """Return a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def shard(text: str) -> Shard:
    """Return the shard that "2/4" says."""
    try:
        return parse_shard(text)
    except PyramidionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def symbols(text: str) -> List[str]:
    """Split "a, b" at commas into ["a", "b"], each once."""
    found = list(dict.fromkeys(symbol.strip() for symbol in text.split(",") if symbol.strip()))
    for symbol in found:
        if clean(symbol) != symbol:
            raise argparse.ArgumentTypeError(f"{symbol!r} is changed by cleaning: no text would have it")
        if symbol in FAIRSEQ_SPECIALS:
            raise argparse.ArgumentTypeError(f"{symbol} is fairseq's own: of a text it becomes {UNKNOWN}")
    return found


def build_parser() -> argparse.ArgumentParser:
    """Return the parser, every default in it."""
    parser = argparse.ArgumentParser(
        prog="pyramidion-prepare",
        description="From a corpus to data that fairseq-train takes: read, clean, sentencepiece, fairseq-preprocess.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("dest", metavar="DEST", help="output folder; an interrupted run continues when started again")
    corpus = parser.add_argument_group("corpus (one of --train, --input, --huggingface, --python-docs, --join)")
    add = corpus.add_argument
    add("--train", nargs="+", metavar="F", help="files of the training split; for text DOCUMENTS:SUMMARIES")
    add("--valid", nargs="+", metavar="F", help="files of the validation split")
    add("--test", nargs="+", metavar="F", help="files of the test split")
    add(
        "--input", nargs="+", metavar="F", help="one corpus, split by hash, or the zip of arXiv/PubMed with its splits"
    )
    add("--huggingface", metavar="NAME", help="data set on the hub (arxiv, pubmed are short names) or saved folder")
    add("--huggingface-config", metavar="C", help="configuration of that data set")
    add("--python-docs", action="store_true", help="documentation of this Python installation (needs no network)")
    add("--join", nargs="+", metavar="DIR", help="the folders of all shards, made with --shard: the corpus as a whole")
    add("--shard", type=shard, metavar="I/N", help="read and encode the I-th of N parts alone; needs --spm-model")
    add("--max-documents", type=positive, metavar="N", help="stop after N documents (of each split where given)")
    add("--format", choices=["auto", "arxiv", "jsonl", "csv", "parquet", "text"], default="auto")
    add("--document-field", metavar="NAME", help="default: the first of the usual names that is there")
    add("--summary-field", metavar="NAME")
    add("--labels", metavar="NAME", help="classes instead of summaries, for the task sentence_prediction: their field")
    add("--second-field", metavar="NAME", help="with --labels: the second text of a pair")
    add("--regression", action="store_true", help="with --labels: they are numbers to predict, no classes")
    add("--valid-fraction", type=fraction, default=0.05, metavar="X", help="of a corpus (0.05, or 20 documents)")
    add("--test-fraction", type=fraction, default=0.05, metavar="X", help="likewise")
    add("--lowercase", action="store_true", help="lower-case the text and whatever the model reads later")
    add("--keep-case", dest="lowercase", action="store_false", help="the default")
    add("--strict", action="store_true", help="the first bad record ends the run")
    add("--max-bad-fraction", type=fraction, default=0.1, metavar="X", help="more bad records end it (default 0.1)")
    vocabulary = parser.add_argument_group("vocabulary")
    add = vocabulary.add_argument
    add("--vocab-size", type=positive, default=32000, metavar="N", help="all symbols included (default 32000)")
    add("--spm-type", choices=["unigram", "bpe"], default="unigram")
    add("--spm-model", metavar="FILE", help="use this sentencepiece model instead of training one")
    add("--spm-sample", type=positive, default=100000, metavar="N", help="train on N documents, 64 MiB at most")
    add("--user-symbols", type=symbols, default=[], metavar="A,B", help="never split these, e.g. '<dig>,<cit>'")
    other = parser.add_argument_group("other")
    add = other.add_argument
    add("--workers", type=positive, default=os.cpu_count() or 1, metavar="N", help="processes (default: all cores)")
    add("--max-source-positions", type=positive, default=8192, metavar="N", help="the model's length, for the report")
    add("--max-target-positions", type=positive, default=1024, metavar="N", help="the model's length, for the report")
    add("--seed", type=int, default=1, metavar="N", help="of the splits and of the sample (default 1)")
    return parser


def _check_labels(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.labels is None and (args.second_field or args.regression):
        parser.error("--second-field and --regression go with --labels")
    if args.labels is not None and args.summary_field:
        parser.error("--labels takes the place of --summary-field: give one of them")
    if args.python_docs and (args.labels not in (None, PACKAGE) or args.second_field or args.regression):
        parser.error(f"--python-docs has one kind of labels: --labels {PACKAGE}")


def parse_options(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse and check; ends the program with status 2 and one line where options contradict each other."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if os.pathsep in args.dest:
        parser.error(f"DEST {args.dest} has {os.pathsep!r} in it, which fairseq reads as a list of folders: rename it")
    given = [name for name in ("train", "input", "huggingface", "python_docs", "join") if getattr(args, name)]
    if len(given) != 1:
        parser.error("give exactly one of --train, --input, --huggingface, --python-docs and --join")
    if (args.valid or args.test) and not args.train:
        parser.error("--valid and --test go with --train")
    if args.valid_fraction + args.test_fraction >= 1:
        parser.error("--valid-fraction and --test-fraction leave nothing to train on")
    if args.huggingface_config and not args.huggingface:
        parser.error("--huggingface-config goes with --huggingface")
    _check_labels(parser, args)
    if args.spm_model and not os.path.isfile(args.spm_model):
        parser.error(f"--spm-model {args.spm_model}: no such file")
    if args.shard and (args.python_docs or args.join or args.max_documents):
        parser.error("--shard does not go with --python-docs, --join and --max-documents")
    if (args.shard or args.join) and args.labels:
        parser.error("--shard and --join are for documents with summaries, not for --labels")
    if args.shard and not args.spm_model:
        parser.error(
            "--shard needs --spm-model, the one vocabulary of all shards: train it first on some of the documents "
            "(pyramidion-prepare data/vocabulary --max-documents 100000, then its sentencepiece.model)"
        )
    if args.join and args.spm_model:
        parser.error("--join takes the sentencepiece model of its shards, not --spm-model")
    capitals = [symbol for symbol in args.user_symbols if symbol != symbol.lower()]
    if args.lowercase and capitals:
        parser.error(f"--user-symbols {capitals[0]}: --lowercase leaves no capitals, give {capitals[0].lower()}")
    if args.spm_model and args.user_symbols:
        parser.error("--user-symbols are part of a model: they cannot be added to --spm-model")
    return args
