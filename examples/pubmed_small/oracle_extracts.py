"""Makes pairs of an article and its oracle extract: the sentences that together come closest to its abstract.

``python examples/pubmed_small/oracle_extracts.py SOURCE OUT``: SOURCE holds train.jsonl.gz and val.jsonl.gz. Sentences
are taken one after the other, each time the one that raises ROUGE-1 F1 + ROUGE-2 F1 most, until none does (Nallapati
et al. 2017, "SummaRuNNer", section 2.2); they stand in the order of the text. A model that is trained on these pairs
learns which sentences to copy, and to copy them whole.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Iterable, Iterator, NamedTuple

from splits import rewrite

#: Words of an article that a model of 2,048 tokens reads for sure, and words of an extract at most.
READ, EXTRACT = 1600, 300
#: Words of a sentence. Shorter ones say little; longer ones are often tables.
SENTENCE = range(6, 80)


class Ngrams(NamedTuple):
    """Words and pairs of words of a text."""

    one: Counter
    two: Counter

    @classmethod
    def of(cls, text: str) -> Ngrams:
        """Return those of a text, as ROUGE counts them without stems."""
        words = re.findall("[a-z0-9]+", text.lower())
        return cls(Counter(words), Counter(zip(words, words[1:])))


class F1:
    """F1 of n-grams of a growing extract against a reference."""

    def __init__(self, reference: Counter) -> None:
        self.missing = reference.copy()
        self.both = sum(reference.values())
        self.matches = 0

    def found(self, ngrams: Counter) -> int:
        """Return how many n-grams of the reference ``ngrams`` would add."""
        return sum(min(count, self.missing[ngram]) for ngram, count in ngrams.items() if ngram in self.missing)

    def with_sentence(self, ngrams: Counter) -> float:
        """Return the F1 of the extract with a sentence more."""
        return 2 * (self.matches + self.found(ngrams)) / max(1, self.both + sum(ngrams.values()))

    def add(self, ngrams: Counter) -> None:
        """Take a sentence into the extract."""
        self.matches += self.found(ngrams)
        self.both += sum(ngrams.values())
        self.missing -= ngrams  # counts do not fall below zero


def oracle_extract(sentences: list[str], abstract: str) -> list[int]:
    """Return the indices of the sentences of the oracle extract, in the order of the text."""
    read, left = 0, {}
    for number, sentence in enumerate(sentences):
        length = len(sentence.split())
        read += length
        if length in SENTENCE and read <= READ:
            left[number] = Ngrams.of(sentence)
    reference = Ngrams.of(abstract)
    one, two = F1(reference.one), F1(reference.two)
    chosen, words, best = [], 0, 0.0
    while left:
        scores = {number: one.with_sentence(own.one) + two.with_sentence(own.two) for number, own in left.items()}
        number = max(scores, key=scores.__getitem__)  # the first of equal ones
        words += sum(left[number].one.values())
        if scores[number] <= best or words > EXTRACT:
            break
        best, own = scores[number], left.pop(number)
        one.add(own.one)
        two.add(own.two)
        chosen.append(number)
    return sorted(chosen)


def with_extracts(articles: Iterable[dict]) -> Iterator[dict]:
    """Yield the articles whose extract has at least two sentences, with it in place of the abstract."""
    for article in articles:
        sentences = article["article_text"]
        chosen = oracle_extract(sentences, " ".join(article["abstract_text"]))
        if len(chosen) > 1:
            yield {**article, "abstract_text": [sentences[number] for number in chosen]}


if __name__ == "__main__":
    rewrite(__doc__.partition("\n")[0], ["train", "val"], with_extracts)
