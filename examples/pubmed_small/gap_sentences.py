"""Makes pairs for pretraining out of articles alone: windows of the text, and their most telling sentences.

``python examples/pubmed_small/gap_sentences.py CLEAN OUT``: CLEAN holds train.jsonl.gz and val.jsonl.gz. Sentences are
scored by ROUGE-1 F1 against the rest of their window, as PEGASUS does (Zhang et al. 2020, "Ind-Orig"); the best make
the summary, in the order of the text. In half of the windows they are taken out of the document, so that they have to
be written; in the others they stay, so that they have to be found and copied.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Iterator

#: Words of a window, those of them that a model of 2,048 tokens reads for sure, and words of the summary.
WINDOW, READ, SUMMARY = 2200, 1600, 260
#: Shorter sentences say little; longer ones are often tables.
SENTENCE = range(8, 80)


def windows(sentences: list[str]) -> Iterator[list[str]]:
    """Yield runs of whole sentences of about :data:`WINDOW` words; the last words of an article are left out."""
    run, words = [], 0
    for sentence in sentences:
        run.append(sentence)
        words += len(sentence.split())
        if words >= WINDOW:
            yield run
            run, words = [], 0


def principal_sentences(sentences: list[str]) -> list[int]:
    """Return the indices of the sentences with the highest ROUGE-1 F1 against the rest, in the order of the text."""
    counts = [Counter(sentence.split()) for sentence in sentences]
    total = sum(counts, Counter())
    size = sum(total.values())
    scores, read = [], 0
    for number, own in enumerate(counts):
        length = sum(own.values())
        read += length
        if length not in SENTENCE or read > READ:
            continue
        shared = sum(min(count, total[word] - count) for word, count in own.items())
        scores.append((2 * shared / size, number, length))  # the denominator of F1 is the same for all
    chosen, words = [], 0
    for _, number, length in sorted(scores, reverse=True):
        if words + length <= SUMMARY:
            chosen.append(number)
            words += length
    return sorted(chosen)


def pairs(path: Path, seed: int) -> Iterator[dict]:
    """Yield a record for each window of each article."""
    generator = random.Random(seed)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            article = json.loads(line)
            for run in windows(article["article_text"]):
                chosen = principal_sentences(run)
                if not chosen:
                    continue
                taken_out = generator.random() < 0.5
                document = [s for n, s in enumerate(run) if not (taken_out and n in set(chosen))]
                yield {"article_text": document, "abstract_text": [run[number] for number in chosen]}


def main() -> None:
    """Write train.jsonl.gz and val.jsonl.gz."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clean", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        records = list(pairs(args.clean / f"{split}.jsonl.gz", args.seed))
        random.Random(args.seed).shuffle(records)
        if split == "val":
            records = records[:300]
        with gzip.open(args.out / f"{split}.jsonl.gz", "wt", encoding="utf-8", compresslevel=3) as out:
            out.writelines(json.dumps(record) + "\n" for record in records)
        print(f"{split}: {len(records):,} windows")


if __name__ == "__main__":
    main()
