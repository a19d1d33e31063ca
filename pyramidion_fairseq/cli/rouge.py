"""``pyramidion-rouge``: ROUGE-1, -2, -L and -Lsum of summaries, with 95% bootstrap confidence intervals.

With ``--more`` also statistics of copied and repeated text, and of words that are not in the document.
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
        epilog="For summaries of several sentences, the ROUGE-L that papers report is usually ROUGE-Lsum here.",
    )
    parser.add_argument("references", metavar="REFERENCES", help="reference summaries, one per line")
    parser.add_argument(
        "hypotheses", metavar="HYPOTHESES", help="generated summaries, one per line, in the same order"
    )
    parser.add_argument(
        "--against", metavar="FILE", help="summaries of another system to compare with, document by document"
    )
    parser.add_argument(
        "--lead", metavar="DOCUMENTS", help="also score the lead baseline of these documents, one document per line"
    )
    parser.add_argument(
        "--lead-words",
        type=int,
        metavar="N",
        help="words of the lead baseline (default: the mean number of words of the references)",
    )
    parser.add_argument(
        "--more",
        metavar="DOCUMENTS",
        help="also report statistics that need the documents, one per line: coverage and density of copied fragments, "
        "compression, novel and repeated n-grams, words, numbers and names that are not in the document, and length "
        "(docs/scores.md)",
    )
    parser.add_argument("--backend", choices=list(BACKENDS), default=defaults.backend, help="default: %(default)s")
    parser.add_argument(
        "--tokenizer",
        choices=TOKENIZERS,
        default=defaults.tokenizer,
        help="how text is split into words; rouge-score: runs of a-z and 0-9; unicode: words of any script, where "
        "scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) have one word per character "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--no-stemming", action="store_true", help="do not stem words (the stemmer is for English words of a-z)"
    )
    parser.add_argument(
        "--separator",
        metavar="TEXT",
        help="separator of sentences, such as '<n>' (default: split at sentence-ending punctuation)",
    )
    parser.add_argument(
        "--samples", type=int, default=defaults.samples, help="bootstrap resamples (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed, help="bootstrap seed (default: %(default)s)")
    parser.add_argument(
        "--json", metavar="FILE", help="write the scores to FILE as JSON; -: print the JSON instead of the table"
    )
    parser.add_argument(
        "--workers", type=int, default=available_cores(), metavar="N", help="worker processes (default: %(default)s)"
    )
    return parser


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_json(args: argparse.Namespace) -> None:
    """Check before the work begins that ``--json`` can be written.

    Raises:
        PyramidionError: it is one of the input files, or cannot be written.
    """
    if args.json in (None, "-"):
        return
    for other in filter(None, (args.references, args.hypotheses, args.against, args.lead, args.more)):
        if is_same_file(args.json, other):
            raise PyramidionError(f"--json {args.json} is the input file {other}: choose another name")
    check_output(args.json, overwrite=True)


def read_documents(args: argparse.Namespace, option: str, references: list[str]) -> list[str]:
    """Return the documents of ``--more`` or ``--lead``.

    Raises:
        PyramidionError: the file contains summaries or references, or its number of lines differs from theirs.
    """
    path = getattr(args, option)
    for other in filter(None, (args.references, args.hypotheses, args.against)):
        if is_same_file(path, other):
            raise PyramidionError(f"--{option} must be the documents that were summarised, but {path} is {other}")
    documents = read_lines(path)
    check_texts(references, documents, (args.references, path))
    return documents


def read_systems(args: argparse.Namespace) -> tuple[list[str], dict[str, list[str]]]:
    """Return the references and the summaries of each system by its name.

    Raises:
        PyramidionError: the files do not match each other, or ``--lead-words`` is invalid.
    """
    check_roles(args.references, args.hypotheses)
    references = read_lines(args.references)
    systems = {args.hypotheses: read_lines(args.hypotheses, blank=len(references))}
    if args.against:
        check_roles(args.references, args.against)
        if is_same_file(args.against, args.hypotheses):
            raise PyramidionError(f"--against {args.against} is the same file as the summaries: give another system's")
        systems[args.against] = read_lines(args.against, blank=len(references))
    for name, texts in systems.items():
        check_texts(references, texts, (args.references, name))
    if args.lead_words is not None and (args.lead_words < 1 or not args.lead):
        raise PyramidionError("--lead-words must be at least 1 and requires --lead DOCUMENTS")
    if args.lead:
        documents = read_documents(args, "lead", references)
        words = args.lead_words or mean_words(references)
        systems[f"lead baseline (first {words} words)"] = lead_baseline(documents, words)
    return references, systems


def table(scores: dict[str, RougeScores]) -> str:
    """Return a table of each system's F1, precision and recall in points, with confidence intervals in brackets."""
    count = len(next(iter(scores.values())).documents)
    width = max(len(name) for name in [*scores, f"{count:,} documents"])
    lines = [f"{f'{count:,} documents':<{width}}    " + "".join(f"{NAMES[metric]:>24}" for metric in METRICS)]
    for name, result in scores.items():
        for label, statistic in (("F1", "fmeasure"), ("P", "precision"), ("R", "recall")):
            cells = ("{:.2f} [{:.2f}, {:.2f}]".format(*result.get(metric, statistic)) for metric in METRICS)
            lines.append(f"{name if label == 'F1' else '':<{width}}  {label:<2}" + "".join(f"{c:>24}" for c in cells))
    return "\n".join(lines)


def comparison(differences: dict[str, dict[str, float]]) -> str:
    """Return one line per metric with its difference between two systems."""
    return "\n".join(
        "{} F1: difference {difference:+.2f} [{low:+.2f}, {high:+.2f}], p = {p:.3f}".format(NAMES[metric], **row)
        for metric, row in differences.items()
    )


def more_table(scores: dict[str, MeasureScores]) -> str:
    """Return a table with a row per measure and a column per system: mean, interval and number of documents."""
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
    """Return ``12.30 [12.00, 12.60]``, with the number of documents if only some have a value; ``-`` if none has."""
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
    """Add the measures of ``--more`` to the report and return the texts to print.

    Args:
        report: the report of :func:`run`, which is modified.
        documents: the documents, in the order of the summaries.
        systems: summaries by the name of their system; the references are one of the systems.
        args: the command's arguments.
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
    """Return the scoring settings of the options."""
    return RougeSettings(args.backend, not args.no_stemming, args.separator, args.samples, args.seed, args.tokenizer)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Score the summaries, print or write the scores, and return the report that ``--json`` writes."""
    settings = settings_of(args)
    check_json(args)
    settings.signature(0)  # fail early if the backend is not installed
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
    # File names that are not valid UTF-8 are written as escapes.
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
    """Run the command; invalid input prints one line to stderr and exits with status 1."""
    open_closed_streams()
    logging.basicConfig(format="%(levelname)s | %(message)s", level=logging.INFO)
    logging.getLogger("absl").setLevel(logging.WARNING)
    with one_line_exit("pyramidion-rouge"):
        run(build_parser().parse_args(argv))


if __name__ == "__main__":
    main()
