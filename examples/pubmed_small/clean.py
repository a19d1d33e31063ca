"""Writes SumPubMed without what publishers put between an abstract and its article, for preprocess/prepare.py.

``python examples/pubmed_small/clean.py SUMPUBMED OUT``: SUMPUBMED holds train, val and test .jsonl.gz. Left out of the
abstracts are lists of keywords, notes on supplementary material, copyright lines and names of conferences; an abstract
that nothing is left of is left out with its article.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Iterator

#: Sentences of abstracts that say nothing of the article.
BOILERPLATE = re.compile(
    r"^(keywords?\b|.*\bonline version of this article\b|.*\bsupplementary (material|information)s?\W*$"
    r"|.*\bissue-copyright-statement|.*©|.*\b(international|asia pacific).{0,80}\bconference\b"
    r"|availability\W*$|contact\W*$|background\W*$|results\W*$|conclusions?\W*$)",
    re.IGNORECASE,
)
MARKS = re.compile(r"</?S>")


def clean_abstract(sentences: list[str]) -> list[str]:
    """Return the sentences that are about the article, without their marks."""
    texts = (" ".join(MARKS.sub(" ", sentence).split()) for sentence in sentences)
    return [text for text in texts if text and not BOILERPLATE.match(text)]


def clean_file(source: Path) -> Iterator[dict]:
    """Yield the records of a file, abstracts cleaned."""
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            record["abstract_text"] = clean_abstract(record["abstract_text"])
            if record["abstract_text"]:
                yield record


def main() -> None:
    """Clean the three splits."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sumpubmed", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    splits = ("train", "val", "test")
    missing = [path for path in (args.sumpubmed / f"{split}.jsonl.gz" for split in splits) if not path.is_file()]
    if missing:
        sys.exit(f"error: there is no {missing[0]}: SUMPUBMED holds train, val and test .jsonl.gz")
    args.out.mkdir(parents=True, exist_ok=True)
    for split in splits:
        count = 0
        with gzip.open(args.out / f"{split}.jsonl.gz", "wt", encoding="utf-8", compresslevel=3) as out:
            for record in clean_file(args.sumpubmed / f"{split}.jsonl.gz"):
                out.write(json.dumps(record) + "\n")
                count += 1
        print(f"{split}: {count:,} articles")


if __name__ == "__main__":
    main()
