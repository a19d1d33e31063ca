"""``pyramidion-summaries``: extract summaries, one per line in corpus order.

The input is the output of fairseq-generate, or of the shards of pyramidion-summarize.
"""

from __future__ import annotations

import argparse
import logging

from ..errors import PyramidionError
from ..scoring.generate_output import find_outputs, in_order, read_summaries
from ..scoring.text_files import read_lines, write_lines
from ..utils.files import is_same_file
from .common import Parser, one_line_exit, open_closed_streams, utf8_stdout

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    parser = Parser(prog="pyramidion-summaries", description=__doc__)
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="output of fairseq-generate, the folder given to its --results-path, or JSON lines of "
        "pyramidion-summarize; several inputs are the shards of one run",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="file for the summaries; -: standard output")
    count = parser.add_mutually_exclusive_group()
    count.add_argument("--references", metavar="FILE", help="text file with one line per document of the split")
    count.add_argument("--expected", type=int, metavar="N", help="number of documents in the split")
    parser.add_argument("--strict", action="store_true", help="fail if a document has no summary")
    return parser


def run(args: argparse.Namespace) -> list[str]:
    """Read, sort and write the summaries; return them."""
    if args.expected is not None and args.expected < 1:
        raise PyramidionError(f"--expected must be at least 1, got {args.expected}")
    outputs = find_outputs(args.inputs)
    for read in filter(None, (*outputs, args.references)):
        if is_same_file(args.output, read):
            raise PyramidionError(f"--output {args.output} is the input file {read}: choose another --output")
    summaries = read_summaries(outputs)
    count = len(read_lines(args.references)) if args.references else args.expected
    ordered = in_order(summaries, count)
    if args.strict and len(summaries) < len(ordered):
        raise PyramidionError(f"{len(ordered) - len(summaries):,} documents have no summary (--strict)")
    if args.output == "-":
        utf8_stdout().write("".join(summary + "\n" for summary in ordered))
    else:
        write_lines(args.output, ordered)
        logger.info(f"wrote {len(ordered):,} summaries to {args.output}")
    return ordered


def main(argv: list[str] | None = None) -> None:
    """Run the command; invalid input prints one line to stderr and exits with status 1."""
    open_closed_streams()
    logging.basicConfig(format="%(levelname)s | %(message)s", level=logging.INFO)
    with one_line_exit("pyramidion-summaries"):
        run(build_parser().parse_args(argv))


if __name__ == "__main__":
    main()
