"""``pyramidion-explain``: a page with a document's summary and its sources, or statistics of the tokens kept."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
from itertools import islice
from typing import Any, Iterator

from ..errors import PyramidionError
from ..text import Document
from ..utils.files import is_written_into
from .common import (
    Parser,
    Progress,
    add_generation_options,
    add_input_options,
    add_model_options,
    check_output,
    count_documents,
    documents_of,
    generation_of,
    input_of,
    load,
    one_line_exit_and_log,
    write_page,
)

logger = logging.getLogger("pyramidion_fairseq.cli.explain")  # also when run as __main__

COMMAND = "pyramidion-explain"


def build_parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    parser = Parser(
        prog=COMMAND,
        description="Summarise a document and show which of its words each pooling kept and which of them the summary "
        "used (or copied, with --pointer). With --aggregate: plots and tables of where the kept tokens "
        "are in the documents of a corpus, in which sections, and how peaked their weights are.",
    )
    add_model_options(parser)
    add_input_options(
        parser,
        "document: the whole file; text: one document per line; jsonl; auto: detect jsonl or document (default: auto)",
        required=True,
    )
    group = parser.add_argument_group("explanation")
    group.add_argument("--output", metavar="FILE", help="self-contained HTML page; with --aggregate: a folder")
    group.add_argument("--json", metavar="FILE", help="write the page's numbers as JSON")
    group.add_argument("--overwrite", action="store_true", help="overwrite existing files")
    group.add_argument("--index", type=int, metavar="N", help="which document of the file, from 0 (default: 0)")
    group.add_argument("--against", metavar="CKPT", help="a second model to show side by side with the first")
    group.add_argument(
        "--against-schedule",
        metavar="SCHEDULE",
        help="--pooling-schedule of the second model if it should differ from its training, such as 2:512,3:128 "
        "(without --against, the second model is the first one with this schedule)",
    )
    group.add_argument("--aggregate", action="store_true", help="summarise all documents and write plots and tables")
    group.add_argument("--limit", type=int, metavar="N", help="with --aggregate: use the first N documents only")
    add_generation_options(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    with one_line_exit_and_log(COMMAND):
        args = build_parser().parse_args(argv)
        if args.aggregate:
            _aggregate(args)
        else:
            _explain(args)


def _explain(args: argparse.Namespace) -> None:
    if args.limit is not None:
        raise PyramidionError("--limit requires --aggregate; use --index to choose one document")
    args.index = args.index or 0
    if not (args.output or args.json):
        raise PyramidionError("give --output for the page, --json for its numbers, or both")
    paths = [path for path in (args.output, args.json) if path]
    for path in paths:
        check_output(path, args.overwrite, source=input_of(args))
    if len(paths) > len({os.path.realpath(path) for path in paths}) and not is_written_into(paths[0]):
        raise PyramidionError(
            f"--output and --json are the same file, {args.json}: choose another name for one of them"
        )
    document = _document(documents_of(args, whole=True), args)
    explanations = [_explanation(load(args), document, args)]
    if args.against is not None or args.against_schedule is not None:
        explanations.append(_explanation(_load_other(args), document, args))
    if args.json:
        numbers = [explanation.to_dict() for explanation in explanations]
        write_page(args.json, json.dumps(numbers if len(numbers) > 1 else numbers[0], ensure_ascii=False))
        logger.info(f"wrote {args.json}: the page's numbers")
    if args.output:
        from ..apps.explain.page import render, render_beside

        write_page(args.output, render_beside(explanations) if len(explanations) > 1 else render(explanations[0]))
        logger.info(f"wrote {args.output}: summary and sources of document {args.index} of {args.input}")


def _explanation(hub: Any, document: Document, args: argparse.Namespace) -> Any:
    """Summarise a document with a model and return the explanation."""
    (summary,) = hub.summarize(document, with_provenance=True, **generation_of(args))
    if summary.provenance is None:
        raise PyramidionError(f"document {args.index} of {args.input} is empty: there is nothing to explain")
    return summary.explain()


def _load_other(args: argparse.Namespace) -> Any:
    """Load the second model, which may be the first one with another schedule."""
    overrides = {} if args.against_schedule is None else {"pooling_schedule": args.against_schedule}
    if args.against is None:
        return load(args, overrides)
    defaults = {"data": None, "sentencepiece_model": None}  # the options belong to the first model
    return load(argparse.Namespace(**{**vars(args), **defaults, "checkpoint": args.against}), overrides)


def _document(documents: Iterator[Document], args: argparse.Namespace) -> Document:
    if args.index < 0:
        raise PyramidionError(f"--index counts from 0, got {args.index}")
    for number, document in enumerate(documents):
        if number == args.index:
            return document
    raise PyramidionError(
        f"{args.input} has no document {args.index} (--index counts from 0); "
        "if it has one document per line, use --input-format text"
    )


def _aggregate(args: argparse.Namespace) -> None:
    if args.against is not None or args.against_schedule is not None:
        raise PyramidionError("--against and --against-schedule cannot be used with --aggregate")
    if args.index is not None:
        raise PyramidionError("--index cannot be used with --aggregate; use --limit N for the first N documents")
    if args.output in (None, "", "-") or args.json:
        raise PyramidionError(
            "--aggregate requires --output DIR, a folder for plots and tables, and cannot be used with --json"
        )
    if args.limit is not None and args.limit < 1:
        raise PyramidionError(f"--limit must be at least 1, got {args.limit}")
    if os.path.isdir(args.output) and os.listdir(args.output) and not args.overwrite:
        raise PyramidionError(f"{args.output} is not empty: use --overwrite, or choose another folder")
    documents = islice(documents_of(args), args.limit)
    with _folder(args.output):
        _aggregate_documents(documents, args)


@contextlib.contextmanager
def _folder(path: str) -> Iterator[None]:
    """Create a folder; remove it at the end if nothing was written to it."""
    there = os.path.isdir(path)
    os.makedirs(path, exist_ok=True)
    if not os.access(path, os.W_OK):
        raise PyramidionError(f"cannot write to {path}: permission denied")
    try:
        yield
    finally:
        if not there and not os.listdir(path):
            os.rmdir(path)


def _aggregate_documents(documents: Iterator[Document], args: argparse.Namespace) -> None:
    from ..apps.explain.aggregate import Aggregate

    hub, progress = load(args), Progress(count_documents(args, limit=args.limit))
    aggregate: Any = Aggregate()
    summaries = hub.summarize_stream(documents, True, progress=progress, **generation_of(args))
    for index, summary in enumerate(summaries):
        if summary.provenance is not None:
            aggregate.add(summary.provenance, index)
    progress.tell()
    logger.info(f"wrote {', '.join(aggregate.write(args.output))} to {args.output}")


if __name__ == "__main__":
    main()
