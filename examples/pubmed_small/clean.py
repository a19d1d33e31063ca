"""Writes SumPubMed without what publishers put between an abstract and its article, for preprocess/prepare.py.

``python examples/pubmed_small/clean.py SOURCE OUT``: SOURCE holds train, val and test .jsonl.gz. Left out of the
abstracts are lists of keywords, notes on supplementary material, copyright lines and names of conferences; an abstract
that nothing is left of is left out with its article.
"""

from __future__ import annotations

import re
from typing import Iterable, Iterator

from splits import rewrite

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


def cleaned(articles: Iterable[dict]) -> Iterator[dict]:
    """Yield articles with their abstracts cleaned."""
    for article in articles:
        abstract = clean_abstract(article["abstract_text"])
        if abstract:
            yield {**article, "abstract_text": abstract}


if __name__ == "__main__":
    rewrite(__doc__.partition("\n")[0], ["train", "val", "test"], cleaned)
