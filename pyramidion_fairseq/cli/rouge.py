"""``pyramidion-rouge``: ROUGE-1, -2, -L and -Lsum of summaries, with 95% bootstrap confidence intervals.

With ``--more`` also what they copy, repeat, and say that is not in the document.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
from typing import Any

from ..errors import PyramidionError
from ..scoring import (
    BACKENDS,
    MEASURES,
    METRICS,
    MeasureScores,
    RougeScores,
    RougeSettings,
    compare,
    compare_measures,
    lead_baseline,
    measure_scores,
    rouge_scores,
)
from ..scoring.lead import mean_words
from ..scoring.rouge import NAMES, STATISTICS, TOKENIZERS
from ..scoring.text_files import check_roles, check_texts, read_lines
from ..utils.files import is_same_file, write_text
from .common import Parser, check_output, one_line_exit, open_closed_streams, utf8_stdout


def build_parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    defaults = RougeSettings()
    parser = Parser(
        prog="pyramidion-rouge",
        description=__doc__,
        epilog="What papers call ROUGE-L of summaries with several sentences mostly is ROUGE-Lsum here.",
    )
    parser.add_argument("references", metavar="REFERENCES", help="one reference summary a line")
    parser.add_argument("hypotheses", metavar="HYPOTHESES", help="one generated summary a line, in the same order")
    parser.add_argument("--against", metavar="FILE", help="another system's summaries: compare, document by document")
    parser.add_argument("--lead", metavar="DOCUMENTS", help="documents, one a line: score their first words, too")
    parser.add_argument(
        "--lead-words", type=int, metavar="N", help="how many (default: as many as a reference has on average)"
    )
    parser.add_argument(
        "--more",
        metavar="DOCUMENTS",
        help="documents, one a line: tell also what summaries copy of them (coverage, density), compression, novel "
        "and repeated n-grams, words, numbers and names that the document lacks, and length (docs/scores.md)",
    )
    parser.add_argument("--backend", choices=list(BACKENDS), default=defaults.backend, help="default: %(default)s")
    parser.add_argument(
        "--tokenizer",
        choices=TOKENIZERS,
        default=defaults.tokenizer,
        help="what words are: rouge-score: of a to z and 0 to 9, all else is blank; unicode: of any script, and of "
        "those written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--no-stemming", action="store_true", help="compare words, not their stems (of English words of a to z)"
    )
    parser.add_argument(
        "--separator", metavar="TEXT", help="what separates sentences, such as '<n>' (default: found by their marks)"
    )
    parser.add_argument(
        "--samples", type=int, default=defaults.samples, help="resamples of the bootstrap (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the scores as JSON; - prints them instead of the table")
    parser.add_argument(
        "--workers", type=int, default=available_cores(), metavar="N", help="processes (default: %(default)s)"
    )
    return parser


def available_cores() -> int:
    """Return cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_json(args: argparse.Namespace) -> None:
    """Refuse, before the work begins, a file of ``--json`` that is read or that cannot be written.

    Raises:
        PyramidionError: so it is.
    """
    if args.json in (None, "-"):
        return
    for other in filter(None, (args.references, args.hypotheses, args.against, args.lead, args.more)):
        if is_same_file(args.json, other):
            raise PyramidionError(f"--json {args.json} is {other}, which is read: choose another name")
    check_output(args.json, overwrite=True)


def read_documents(args: argparse.Namespace, option: str, references: list[str]) -> list[str]:
    """Return the documents of ``--more`` or ``--lead``.

    Raises:
        PyramidionError: the file is one of summaries or of references, or has another number of lines.
    """
    path = getattr(args, option)
    for other in filter(None, (args.references, args.hypotheses, args.against)):
        if is_same_file(path, other):
            raise PyramidionError(f"--{option} wants the documents that were summarised, and {path} is {other}")
    documents = read_lines(path)
    check_texts(references, documents, (args.references, path))
    return documents


def read_systems(args: argparse.Namespace) -> tuple[list[str], dict[str, list[str]]]:
    """Return references, and the summaries of each system by its name, all checked.

    Raises:
        PyramidionError: the files do not fit together.
    """
    check_roles(args.references, args.hypotheses)
    references = read_lines(args.references)
    systems = {args.hypotheses: read_lines(args.hypotheses, blank=len(references))}
    if args.against:
        check_roles(args.references, args.against)
        if is_same_file(args.against, args.hypotheses):
            raise PyramidionError(f"--against is the same file: {args.against}")
        systems[args.against] = read_lines(args.against, blank=len(references))
    for name, texts in systems.items():
        check_texts(references, texts, (args.references, name))
    if args.lead_words is not None and (args.lead_words < 1 or not args.lead):
        raise PyramidionError("--lead-words is a number of at least 1, and needs --lead DOCUMENTS")
    if args.lead:
        documents = read_documents(args, "lead", references)
        words = args.lead_words or mean_words(references)
        systems[f"lead baseline (first {words} words)"] = lead_baseline(documents, words)
    return references, systems


def table(scores: dict[str, RougeScores]) -> str:
    """Return rows of F1, precision and recall for each system, in points, intervals in brackets."""
    count = len(next(iter(scores.values())).documents)
    width = max(len(name) for name in [*scores, f"{count:,} documents"])
    lines = [f"{f'{count:,} documents':<{width}}    " + "".join(f"{NAMES[metric]:>24}" for metric in METRICS)]
    for name, result in scores.items():
        for label, statistic in (("F1", "fmeasure"), ("P", "precision"), ("R", "recall")):
            cells = ("{:.2f} [{:.2f}, {:.2f}]".format(*result.get(metric, statistic)) for metric in METRICS)
            lines.append(f"{name if label == 'F1' else '':<{width}}  {label:<2}" + "".join(f"{c:>24}" for c in cells))
    return "\n".join(lines)


def comparison(differences: dict[str, dict[str, float]]) -> str:
    """Return one line for each metric's difference."""
    return "\n".join(
        "{} F1: difference {difference:+.2f} [{low:+.2f}, {high:+.2f}], p = {p:.3f}".format(NAMES[metric], **row)
        for metric, row in differences.items()
    )


def more_table(scores: dict[str, MeasureScores]) -> str:
    """Return a row for each measure and a column for each system: mean and interval, and of how many documents."""
    count = len(next(iter(scores.values())).documents)
    cells = [[f"{count:,} documents", *scores]]
    for measure, label in MEASURES.items():
        cells.append([label, *(more_cell(result.get(measure), count) for result in scores.values())])
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for label, *rest in cells:
        columns = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:]))
        lines.append("  ".join([f"{label:<{widths[0]}}", *columns]))
    return "\n".join(lines)


def more_cell(values: tuple[float, float, float, int], count: int) -> str:
    """Return ``12.30 [12.00, 12.60]``, with the number of documents where only some have a value; ``-`` for none."""
    mean, low, high, known = values
    if math.isnan(mean):
        return "-"
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]" + (f" n={known:,}" if known < count else "")


def more_comparison(differences: dict[str, dict[str, Any]], count: int) -> str:
    """Return one line for each measure that both systems have."""
    lines = []
    for measure, row in differences.items():
        if row["difference"] is not None:
            text = "{}: difference {difference:+.2f} [{low:+.2f}, {high:+.2f}], p = {p:.3f}"
            part = f" n={row['documents']:,}" if row["documents"] < count else ""
            lines.append(text.format(MEASURES[measure], **row) + part)
    return "\n".join(lines)


def add_more(
    report: dict[str, Any], documents: list[str], systems: dict[str, list[str]], args: argparse.Namespace
) -> list[str]:
    """Put what ``--more`` tells into the report; return what is printed of it.

    Args:
        report: as of :func:`run`.
        documents: one a line.
        systems: summaries by name, with those of the references.
        args: the command's.
    """
    scores = measure_scores(documents, systems, settings_of(args), workers=args.workers, progress=True)
    first = scores[args.hypotheses]
    measured = {name: result.as_dict() for name, result in scores.items()}
    report["more"] = {"documents": args.more, "signature": first.signature, "systems": measured}
    printed = [more_table(scores)]
    if args.against:
        report["more"]["comparison"] = compare_measures(first, scores[args.against])
        printed.append(more_comparison(report["more"]["comparison"], len(documents)))
    return [*printed, first.signature]


def settings_of(args: argparse.Namespace) -> RougeSettings:
    """Return the settings that the options ask for."""
    return RougeSettings(args.backend, not args.no_stemming, args.separator, args.samples, args.seed, args.tokenizer)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Score, and print or write; return what is written as JSON."""
    settings = settings_of(args)
    check_json(args)
    settings.signature(0)  # a backend that is not installed is found before the files are read
    references, systems = read_systems(args)
    documents = read_documents(args, "more", references) if args.more is not None else None
    scores = {
        name: rouge_scores(references, texts, settings, workers=args.workers, progress=True)
        for name, texts in systems.items()
    }
    first = scores[args.hypotheses]
    report: dict[str, Any] = {"systems": {name: result.as_dict() for name, result in scores.items()}}
    report.update(references=args.references, statistics=list(STATISTICS), signature=first.signature)
    printed = [table(scores)]
    if args.against:
        report["comparison"] = compare(first, scores[args.against])
        printed.append(comparison(report["comparison"]))
    printed.append(first.signature)
    if documents is not None:
        printed += ["", *add_more(report, documents, {args.references: references, **systems}, args)]
    # Names of files may be no UTF-8: JSON has escapes for that.
    text = json.dumps(report, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")
    output = utf8_stdout()
    if args.json == "-":
        output.write(text + "\n")
        return report
    if args.json:
        write_text(args.json, text + "\n")
    output.write("".join(part + "\n" for part in printed))
    return report


def main(argv: list[str] | None = None) -> None:
    """Run the command; bad input ends it with one line on stderr and exit status 1."""
    open_closed_streams()
    logging.basicConfig(format="%(levelname)s | %(message)s", level=logging.INFO)
    logging.getLogger("absl").setLevel(logging.WARNING)
    with one_line_exit("pyramidion-rouge"):
        run(build_parser().parse_args(argv))


if __name__ == "__main__":
    main()
