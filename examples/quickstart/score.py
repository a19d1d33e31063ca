"""ROUGE of fairseq-generate's output and of the lead baseline, side by side.

usage: score.py GENERATE_LOG TEXT_FOLDER --output SUMMARIES.txt

TEXT_FOLDER is ``text/`` of preprocess/prepare.py, with train.target, test.source and test.target. Writes the summaries
in corpus order, one a line; ends with an error where a document has none.
"""

import argparse
import re
import sys
from pathlib import Path

from rouge_score import rouge_scorer

METRICS = ("rouge1", "rouge2", "rougeL")


def read_lines(path):
    """Lines of a UTF-8 file, split at newlines only."""
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")


def read_summaries(log, count):
    """Detokenised hypotheses (``D-`` lines) of fairseq-generate, in corpus order."""
    found = dict(re.findall(r"^D-(\d+)\t[^\t]*\t(.*)$", log.read_text(encoding="utf-8"), re.M))
    missing = [i for i in range(count) if str(i) not in found]
    if missing or len(found) != count:
        sys.exit(f"error: {log} has {len(found)} summaries for {count} documents (first missing: {missing[:5]})")
    return [found[str(i)] for i in range(count)]


def lead(document, words):
    """The baseline: the document's first words, as many as a summary of the training split has on average."""
    return " ".join(document.split()[:words])


def mean_f1(references, hypotheses):
    """Mean F1 x 100 of each of METRICS, stemmed."""
    scorer = rouge_scorer.RougeScorer(METRICS, use_stemmer=True)
    rows = [scorer.score(reference, hypothesis) for reference, hypothesis in zip(references, hypotheses)]
    return [100 * sum(row[metric].fmeasure for row in rows) / len(rows) for metric in METRICS]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path, help="output of fairseq-generate")
    parser.add_argument("text", type=Path, help="the folder text/ that preprocess/prepare.py wrote")
    parser.add_argument("--output", type=Path, required=True, help="where to write the summaries")
    args = parser.parse_args()

    documents, references = read_lines(args.text / "test.source"), read_lines(args.text / "test.target")
    summaries = read_summaries(args.log, len(documents))
    args.output.write_text("".join(summary + "\n" for summary in summaries), encoding="utf-8")

    lengths = [len(summary.split()) for summary in read_lines(args.text / "train.target")]
    words = round(sum(lengths) / len(lengths))
    print(f"{'F1 x 100, ' + str(len(documents)) + ' documents':<34}{'ROUGE-1':>9}{'ROUGE-2':>9}{'ROUGE-L':>9}")
    for name, hypotheses in (
        ("this model", summaries),
        (f"lead baseline (first {words} words)", [lead(document, words) for document in documents]),
    ):
        print(f"{name:<34}" + "".join(f"{score:9.2f}" for score in mean_f1(references, hypotheses)))
    print(f"\nFirst test document, its summary:  {references[0][:300]}")
    print(f"What this model wrote:             {summaries[0][:300]}")


if __name__ == "__main__":
    main()
