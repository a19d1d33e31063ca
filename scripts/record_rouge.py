"""Write tests/data/rouge_*: summaries of Python modules, and their scores of Perl's ROUGE-1.5.5.

usage: ROUGE_HOME=folder-of-ROUGE-1.5.5.pl python scripts/record_rouge.py

A reference is the docstring of a module of the standard library. A hypothesis is the beginning of the docstrings of
the module's classes and functions. All modules of ``prepare --python-docs`` are included.
"""

import gzip
import json
import os
import platform
import re
import sysconfig
from pathlib import Path

from pyramidion_fairseq.scoring import RougeSettings, document_scores

ROOT = Path(__file__).resolve().parent.parent
from pyramidion_fairseq.prepare.cleaning import clean  # noqa: E402
from pyramidion_fairseq.prepare.errors import BadRecord  # noqa: E402
from pyramidion_fairseq.prepare.python_docs import PythonDocs  # noqa: E402

WORDS = 100
"""Longest reference; hypotheses are as long as their references, at least FEWEST."""
FEWEST = 30


def tokenised(text: str) -> str:
    """Return text in the style of arXiv and PubMed: in lower case, with spaces around punctuation."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


def pairs():
    """Yield one dict per module."""
    corpus = PythonDocs([os.path.realpath(sysconfig.get_path("stdlib"))])
    for raw in corpus.records():
        try:
            parsed = corpus.parse(raw)
        except BadRecord:
            continue
        reference = clean(parsed.summary).split()[:WORDS]
        hypothesis = clean(parsed.document).split()[: max(FEWEST, len(reference))]
        yield {"module": parsed.key, "reference": " ".join(reference), "hypothesis": " ".join(hypothesis)}


def main() -> None:
    """Write both files."""
    rows = list(pairs())
    means = {}
    for form, separator, prepare in (("as written", None, str), ("tokenised", " .", tokenised)):
        texts = [[prepare(row[side]) for row in rows] for side in ("reference", "hypothesis")]
        for stemming in (True, False):
            settings = RougeSettings("files2rouge", stemming, separator)
            scores = document_scores(*texts, settings).mean(axis=0).round(5).tolist()
            means.setdefault(form, {})["stemmed" if stemming else "not stemmed"] = scores
    record = {
        "texts": f"docstrings of Python {platform.python_version()}'s standard library (PSF licence)",
        "scored by": "ROUGE-1.5.5.pl -n 2 -d -z SPL; plain mean over documents; -m where stemmed",
        "sentences": "as written: those of split_sentences; tokenised: split at ' .', as files2rouge does",
        "rows": "ROUGE-1, -2, -L, -Lsum; precision, recall, F1 in points",
        "means": means,
    }
    folder = ROOT / "tests" / "data"
    (folder / "rouge_1_5_5.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    with gzip.GzipFile(folder / "rouge_pairs.jsonl.gz", "wb", mtime=0) as stream:
        stream.write("".join(json.dumps(row) + "\n" for row in rows).encode("utf-8"))


if __name__ == "__main__":
    main()
