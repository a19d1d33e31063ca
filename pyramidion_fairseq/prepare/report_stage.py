"""Stage 5: report the lengths of the documents and the skipped records, as JSON, a table and a figure."""

import json
import logging
import os
import platform
from typing import Any, Dict, List

from ..utils.requirements import installed
from .length_statistics import summarise

logger = logging.getLogger("prepare")
COLUMNS = ("documents", "mean", "median", "p90", "p99", "max")
NOTE = "Lengths in sentencepiece tokens with the closing </s>, as fairseq counts them. Nothing was truncated."


def versions() -> Dict[str, str]:
    """Return the versions of Python and of the packages that affect the output, "none" for a missing package."""
    found = {"python": platform.python_version()}
    for name, distributions in {"sentencepiece": ["sentencepiece"], "fairseq": ["fairseq-fixed", "fairseq"]}.items():
        _, found[name] = installed(*distributions) or ("", "none")
    return found


def build_report(lengths: Dict[str, Any], limits: Dict[str, int], about: Dict[str, Any]) -> Dict[str, Any]:
    """Return the report as JSON-serialisable data.

    Args:
        lengths: ``split.side`` -> {"lengths": {tokens as str: documents}, "unknown": tokens}
        limits: side -> the model's maximum length in tokens
        about: other entries of the report (arguments, counts of skipped records, vocabulary)
    """
    splits: Dict[str, Dict[str, Any]] = {}
    for name, counted in lengths.items():
        split, side = name.split(".")
        histogram = {int(length): count for length, count in counted["lengths"].items()}
        statistics: Dict[str, Any] = summarise(histogram, limits[side])
        statistics["unknown"] = counted["unknown"]
        splits.setdefault(split, {})[side] = statistics
    return dict(about, splits=splits, versions=versions())


def table(report: Dict[str, Any]) -> str:
    """Return the report as a table of fixed-width columns, followed by the counts of skipped records."""
    header = ["split", "side", *COLUMNS, "limit", "longer", "unknown"]
    rows: List[List[str]] = [header]
    for split, sides in report["splits"].items():
        for side, numbers in sides.items():
            values = [f"{numbers[column]:.0f}" for column in COLUMNS]
            shares = [
                "{:.2%}".format(numbers["share_longer"]),
                "{:.3%}".format(numbers["unknown"] / numbers["tokens"]),
            ]
            rows.append([split, side, *values, str(numbers["limit"]), *shares])
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
    lines += ["", NOTE, "Vocabulary: {} (fairseq's special symbols included).".format(report["vocabulary"])]
    if "labels" in report:
        lines.append("Labels: {}.".format(report["labels"]))
    skipped = report["skipped"]
    lines.append("Left out: {} records{}".format(sum(skipped.values()), ", listed in skipped.jsonl:" * bool(skipped)))
    lines += [f"  {count:>8}  {reason}" for reason, count in sorted(skipped.items(), key=lambda x: -x[1])]
    if report["replaced"]:
        lines.append("Kept with invalid UTF-8 replaced: {} records.".format(report["replaced"]))
    return "\n".join(lines) + "\n"


def plot(lengths: Dict[str, Any], limits: Dict[str, int], path: str) -> bool:
    """Plot histograms of the lengths per split and side as PNG; return False if matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    splits, sides = (list(dict.fromkeys(name.split(".")[part] for name in lengths)) for part in (0, 1))
    figure, axes = pyplot.subplots(len(splits), len(sides), figsize=(11, 2.8 * len(splits)), squeeze=False)
    for row, split in enumerate(splits):
        for column, side in enumerate(sides):
            axis = axes[row][column]
            histogram = {int(k): v for k, v in lengths[f"{split}.{side}"]["lengths"].items()}
            axis.hist(list(histogram), bins=60, weights=list(histogram.values()), color="#4878a8")
            axis.axvline(limits[side], color="#c44e52", linestyle="--", label=f"model: {limits[side]}")
            axis.set(title=f"{split} {side}", xlabel="tokens", ylabel="documents", xlim=(0, None))
            axis.legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def report_stage(
    lengths: Dict[str, Any], limits: Dict[str, int], about: Dict[str, Any], folder: str
) -> Dict[str, Any]:
    """Write ``report.json``, ``report.txt`` and ``report.png`` below ``folder``; return ``table``."""
    report = build_report(lengths, limits, about)
    text = table(report)
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8") as stream:
        json.dump(report, stream, indent=2, sort_keys=True)
        stream.write("\n")
    with open(os.path.join(folder, "report.txt"), "w", encoding="utf-8") as stream:
        stream.write(text)
    if not plot(lengths, limits, os.path.join(folder, "report.png")):
        logger.warning("matplotlib is not installed: report.png is not written")
    return {"table": text}
