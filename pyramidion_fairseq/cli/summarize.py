"""``pyramidion-summarize``: one summary per document, in input order, for documents of any length."""

from __future__ import annotations

import argparse
import json
import os
from collections import deque
from itertools import chain, islice
from typing import Any, Iterable, Iterator

from ..errors import PyramidionError
from ..text import Document
from ..utils.files import is_written_into
from ..utils.shards import WHOLE, Shard, parse_shard
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
    open_output,
    write_page,
)

COMMAND = "pyramidion-summarize"


def build_parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    parser = Parser(
        prog=COMMAND,
        description="Summarise documents. The input is plain text (one document per line), JSON lines, or "
        "arXiv/PubMed JSON lines. Documents longer than the model's input are truncated. The summary of an empty "
        "document is empty.",
    )
    add_model_options(parser)
    add_input_options(
        parser,
        "text: one document per line; document: the whole file; jsonl; auto: detect jsonl or text; JSON arrays and "
        "tables are not supported (default: auto)",
    )
    group = parser.add_argument_group("summaries")
    group.add_argument("--output", default="-", metavar="FILE", help="output file (default: -, standard output)")
    formats = "text: one summary per line; jsonl; html: a page (default: text)"
    group.add_argument("--format", default="text", choices=("text", "jsonl", "html"), help=formats)
    group.add_argument(
        "--sources",
        action="store_true",
        help="with --format jsonl: include the sources of each word: the model's attention and, with --pointer, "
        "the probability that the word was copied, and from which words of the document",
    )
    group.add_argument(
        "--shard",
        metavar="I/N",
        help="summarise only the I-th of N shards of the documents, with --format jsonl; pyramidion-summaries joins "
        "the outputs",
    )
    group.add_argument("--resume", action="store_true", help="continue the output of an interrupted run")
    group.add_argument("--overwrite", action="store_true", help="overwrite an existing output file")
    add_generation_options(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    with one_line_exit_and_log(COMMAND):
        args = build_parser().parse_args(argv)
        _check_options(args)
        documents = documents_of(args)
        if args.format == "html":
            _write_page(args, documents)
            return
        shard = parse_shard(args.shard) if args.shard else WHOLE
        documents = _of_shard(documents, shard, args.input)
        done, end = _skip_finished(documents, args, shard) if args.resume else (0, 0)
        hub, progress = load(args), Progress(count_documents(args, done, shard=shard))
        ids: deque[str | int | None] = deque()
        with_ids = _note_ids(documents, ids)
        summaries = hub.summarize_stream(with_ids, args.sources, progress=progress, **generation_of(args))
        first = list(islice(summaries, 1))  # summarise before the old file is replaced
        summaries = chain(first, summaries)
        if args.resume and os.path.exists(args.output):
            if not done and args.format == "text":
                _refuse_other_text(args.output, first[0].text if first else "")
            os.truncate(args.output, end)  # drop an incomplete last line
        with open_output(args.output, args.resume) as output:
            for number, summary in enumerate(summaries, start=done):
                output.write(_line(summary, shard.position(number), ids.popleft(), args) + "\n")
                output.flush()
        progress.tell()


def _check_options(args: argparse.Namespace) -> None:
    if args.sources and args.format != "jsonl":
        raise PyramidionError("--sources requires --format jsonl")
    if args.shard:
        parse_shard(args.shard)
        if args.format != "jsonl":
            raise PyramidionError("--shard requires --format jsonl, whose index is needed to join the shards")
    if args.resume and args.overwrite:
        raise PyramidionError("--resume continues the output and --overwrite replaces it: give one of them")
    if args.resume and (args.format == "html" or args.output == "-" or is_written_into(args.output)):
        raise PyramidionError("--resume requires --output FILE, not a pipe or device, and --format text or jsonl")
    instead = "use --overwrite, or --resume to continue it"
    check_output(args.output, args.resume or args.overwrite, instead, input_of(args))


def _of_shard(documents: Iterator[Document], shard: Shard, name: str) -> Iterator[Document]:
    """Return the documents of a shard.

    Raises:
        PyramidionError: the shard has no documents.
    """
    part = shard.of(documents)
    first = list(islice(part, 1))
    if not first and shard.total > 1:
        raise PyramidionError(f"shard {shard} of {name} has no documents: use fewer shards")
    return chain(first, part)


def _note_ids(documents: Iterable[Document], ids: deque[str | int | None]) -> Iterator[Document]:
    """Yield the documents and append each document's id to ``ids``; summaries come in the same order."""
    for document in documents:
        ids.append(document.article_id)
        yield document


def _line(summary: Any, number: int, article_id: str | int | None, args: argparse.Namespace) -> str:
    if args.format == "text":
        return summary.text
    row: dict[str, Any] = {"index": number} if article_id is None else {"index": number, "article_id": article_id}
    if args.shard:
        row["shard"] = args.shard
    row.update(summary=summary.text, score=summary.score, tokens=len(summary.tokens))
    if args.sources:
        row["explanation"] = summary.explain().to_dict() if summary.provenance else None
    return json.dumps(row, ensure_ascii=False)


def _write_page(args: argparse.Namespace, documents: Any) -> None:
    from ..apps.explain.page import render_many

    hub, progress = load(args), Progress(count_documents(args))
    summaries = hub.summarize_stream(documents, True, progress=progress, **generation_of(args))
    explanations = [summary.explain() for summary in summaries if summary.provenance]
    if not explanations:
        raise PyramidionError("no document contains any text")
    page = render_many(explanations)
    write_page(args.output, page)
    progress.tell()


def _skip_finished(documents: Iterator[Document], args: argparse.Namespace, shard: Shard) -> tuple[int, int]:
    """Skip the documents whose summaries are in the output; return their number and the bytes of their lines.

    Raises:
        PyramidionError: the output was written for other documents, or with another --shard, --format or --sources.
    """
    lines, end, last = _finished_lines(args, shard)
    skipped = list(islice(documents, lines))
    if len(skipped) < lines:
        raise PyramidionError(
            f"{args.output} has {lines} summaries, but {args.input} has fewer documents: give the same --input"
        )
    if skipped and args.format == "jsonl":
        try:
            row = json.loads(last)
            found = (row["index"], row.get("shard"), row.get("article_id"))
        except (ValueError, LookupError, TypeError, AttributeError):
            found = None
        if found != (shard.position(lines - 1), args.shard, skipped[-1].article_id):
            raise PyramidionError(
                f"{args.output}, line {lines}, is of another document or --shard: give the same as in the first run"
            )
        if ("explanation" in row) != args.sources:
            written = "without" if args.sources else "with"
            raise PyramidionError(f"{args.output} was written {written} --sources: continue it {written} --sources")
    return lines, end


def _finished_lines(args: argparse.Namespace, shard: Shard) -> tuple[int, int, bytes]:
    """Return the number of complete lines of the output, their bytes and the last line; (0, 0, b"") for no output.

    Raises:
        PyramidionError: the output was written with another --format or --shard.
    """
    lines, end, last = 0, 0, b""
    if not os.path.exists(args.output):
        return lines, end, last
    start = b'{"index": %d,' % shard.position(0)
    with open(args.output, "rb") as file:
        for line in file:
            # The first line may be incomplete.
            if not lines and (line[: len(start)] == start[: len(line)]) != (args.format == "jsonl"):
                raise PyramidionError(
                    f"{args.output} was written with another --format or --shard: give the same as in the first run"
                )
            if line.endswith(b"\n"):
                lines, end, last = lines + 1, end + len(line), line
    return lines, end, last


def _refuse_other_text(path: str, summary: str) -> None:
    """Raise PyramidionError if a file without a complete line is not the start of the first summary."""
    line = f"{summary}\n".encode("utf-8", "backslashreplace")
    with open(path, "rb") as file:
        start = file.read(len(line))
    if not line.startswith(start) or os.path.getsize(path) > len(line):
        raise PyramidionError(
            f"{path} does not begin with the summary of the first document: give the same options as in the first "
            "run, or use --overwrite to replace it"
        )


if __name__ == "__main__":
    main()
