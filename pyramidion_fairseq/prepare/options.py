"""The options of pyramidion-prepare."""

import argparse
import os
from typing import List, Optional

from ..errors import PyramidionError
from ..utils.shards import Shard, parse_shard
from .cleaning import clean
from .dictionary_lines import FAIRSEQ_SPECIALS, UNKNOWN

#: The only labels of --python-docs.
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
    """Parse a number between 0 and 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def positive(text: str) -> int:
    """Parse a positive integer."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
    return value


def shard(text: str) -> Shard:
    """Parse a shard such as "2/4"."""
    try:
        return parse_shard(text)
    except PyramidionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def symbols(text: str) -> List[str]:
    """Parse symbols separated by commas: "a, b" gives ["a", "b"], without duplicates."""
    found = list(dict.fromkeys(symbol.strip() for symbol in text.split(",") if symbol.strip()))
    for symbol in found:
        if clean(symbol) != symbol:
            raise argparse.ArgumentTypeError(f"{symbol!r} is changed when text is cleaned, so no text contains it")
        if symbol in FAIRSEQ_SPECIALS:
            raise argparse.ArgumentTypeError(f"{symbol} is a special symbol of fairseq: in text it becomes {UNKNOWN}")
    return found


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the options and their defaults."""
    parser = argparse.ArgumentParser(
        prog="pyramidion-prepare",
        description="Prepare a corpus for fairseq-train: read and clean it, train or load a sentencepiece model, "
        "encode, run fairseq-preprocess, and report the lengths.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("dest", metavar="DEST", help="output folder; run the same command again to continue an interrupted run")
    corpus = parser.add_argument_group("corpus (one of --train, --input, --huggingface, --python-docs, --join)")
    add = corpus.add_argument
    add("--train", nargs="+", metavar="F", help="files of the training split; plain text as DOCUMENTS:SUMMARIES")
    add("--valid", nargs="+", metavar="F", help="files of the validation split")
    add("--test", nargs="+", metavar="F", help="files of the test split")
    add("--input", nargs="+", metavar="F", help="corpus to split by hash, or the arXiv/PubMed zip with its own splits")
    add("--huggingface", metavar="NAME", help="data set on the hub (or arxiv or pubmed), or a save_to_disk folder")
    add("--huggingface-config", metavar="C", help="configuration of the data set")
    add("--python-docs", action="store_true", help="documentation of this Python installation (needs no network)")
    add(
        "--join",
        nargs="+",
        metavar="DIR",
        help="join shards: the folders of all shards that were prepared with --shard",
    )
    add("--shard", type=shard, metavar="I/N", help="read and encode only the I-th of N shards; requires --spm-model")
    add("--max-documents", type=positive, metavar="N", help="stop after N documents (of each given split)")
    formats = ["auto", "arxiv", "jsonl", "csv", "parquet", "text"]
    add("--format", choices=formats, default="auto", help="format of the files (default: detected)")
    add("--document-field", metavar="NAME", help="field of the documents (default: the first usual name found)")
    add("--summary-field", metavar="NAME", help="field of the summaries (default: the first usual name found)")
    add(
        "--labels",
        metavar="NAME",
        help="field of labels to use instead of summaries, for the task sentence_prediction",
    )
    add("--second-field", metavar="NAME", help="with --labels: field of the second text of a pair")
    add("--regression", action="store_true", help="with --labels: the labels are numbers to predict, not classes")
    small = "of a corpus that is split by hash (default: 0.05; a small corpus gives 20 documents, or a tenth)"
    add("--valid-fraction", type=fraction, default=0.05, metavar="X", help=f"validation share {small}")
    add("--test-fraction", type=fraction, default=0.05, metavar="X", help="test share (default: likewise)")
    add("--lowercase", action="store_true", help="lower-case the text, also when the model is used later")
    add("--keep-case", dest="lowercase", action="store_false", help="do not lower-case the text (default)")
    add("--strict", action="store_true", help="stop at the first bad record")
    add("--max-bad-fraction", type=fraction, default=0.1, metavar="X", help="stop if more are bad (default: 0.1)")
    _add_vocabulary_options(parser)
    _add_other_options(parser)
    return parser


def _add_vocabulary_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the vocabulary."""
    add = parser.add_argument_group("vocabulary").add_argument
    add(
        "--vocab-size",
        type=positive,
        default=32000,
        metavar="N",
        help="vocabulary size, including special symbols (default: 32000)",
    )
    kinds = ["unigram", "bpe"]
    add("--spm-type", choices=kinds, default="unigram", help="kind of sentencepiece model (default: unigram)")
    add("--spm-model", metavar="FILE", help="use this sentencepiece model instead of training one")
    add(
        "--spm-sample",
        type=positive,
        default=100000,
        metavar="N",
        help="train on N documents, at most 64 MiB (default: 100000)",
    )
    add(
        "--user-symbols", type=symbols, default=[], metavar="A,B", help="symbols never to split, such as '<dig>,<cit>'"
    )


def _add_other_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of neither the corpus nor the vocabulary."""
    add = parser.add_argument_group("other").add_argument
    add(
        "--workers",
        type=positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="worker processes (default: all cores)",
    )
    length = "maximum {} length of the model in tokens, for the report (default: {})"
    add("--max-source-positions", type=positive, default=8192, metavar="N", help=length.format("document", 8192))
    add("--max-target-positions", type=positive, default=1024, metavar="N", help=length.format("summary", 1024))
    add("--seed", type=int, default=1, metavar="N", help="seed of the splits and of the sample (default: 1)")


def _check_labels(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.labels is None and (args.second_field or args.regression):
        parser.error("--second-field and --regression require --labels")
    if args.labels is not None and args.summary_field:
        parser.error("--labels and --summary-field cannot be used together: give only one")
    if args.python_docs and (args.labels not in (None, PACKAGE) or args.second_field or args.regression):
        parser.error(f"with --python-docs, labels must be --labels {PACKAGE}, without --second-field and --regression")


def parse_options(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse and check the options; exit with status 2 and one line if options contradict each other."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if os.pathsep in args.dest:
        parser.error(f"DEST {args.dest} contains {os.pathsep!r}, where fairseq would split it: choose another name")
    given = [name for name in ("train", "input", "huggingface", "python_docs", "join") if getattr(args, name)]
    if len(given) != 1:
        parser.error("give exactly one of --train, --input, --huggingface, --python-docs and --join")
    if (args.valid or args.test) and not args.train:
        parser.error("--valid and --test require --train")
    if args.valid_fraction + args.test_fraction >= 1:
        parser.error("--valid-fraction and --test-fraction leave no training documents: their sum must be below 1")
    if args.huggingface_config and not args.huggingface:
        parser.error("--huggingface-config requires --huggingface")
    _check_labels(parser, args)
    if args.spm_model and not os.path.isfile(args.spm_model):
        parser.error(f"--spm-model {args.spm_model}: no such file")
    if args.shard and (args.python_docs or args.join or args.max_documents):
        parser.error("--shard cannot be used with --python-docs, --join or --max-documents")
    if (args.shard or args.join) and args.labels:
        parser.error("--shard and --join cannot be used with --labels")
    if args.shard and not args.spm_model:
        parser.error(
            "--shard requires --spm-model, the vocabulary of all shards: first train it on some of the documents "
            "(pyramidion-prepare data/vocabulary --max-documents 100000), then give its sentencepiece.model"
        )
    if args.join and args.spm_model:
        parser.error("--join uses the sentencepiece model of its shards and cannot be used with --spm-model")
    capitals = [symbol for symbol in args.user_symbols if symbol != symbol.lower()]
    if args.lowercase and capitals:
        parser.error(f"--user-symbols {capitals[0]}: --lowercase removes capitals, give {capitals[0].lower()} instead")
    if args.spm_model and args.user_symbols:
        parser.error("--user-symbols cannot be added to the trained model --spm-model: give only one of these options")
    return args
