"""Train sentencepiece: ``python train_sentencepiece.py PLAN.json``, a process of its own so that it can be stopped.

The plan is written by ``vocabulary_stage``. The result depends on the plan and the text alone: the sample is seeded
and the number of threads fixed, because the sums of unigram training are rounded differently with another one.
"""

import io
import json
import os
import random
import re
import sys
from typing import Any, Dict, Iterator, List

import sentencepiece

THREADS = 16
MAX_SAMPLE_BYTES = 64 << 20  # about 25 s of unigram training on two cores
# sentencepiece's default of 0.9995 leaves out '?', '&' and most Greek letters of a biomedical corpus; this one keeps
# the 200 characters that occur there more than ten times.
CHARACTER_COVERAGE = 0.99999
MAX_SENTENCE_BYTES = 4000  # below sentencepiece's limit of 4192, above which it drops a sentence
SENTENCE_END = re.compile(r"(?<=[.!?]) ")
# The same numbers as in fairseq's dictionary, so that sentencepiece's ids are fairseq's.
SPECIALS: Dict[str, Any] = {"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3}


def chosen_documents(plan: Dict[str, Any]) -> List[int]:
    """Return sorted numbers of the documents to train on.

    At most ``sample``, and so few that their bytes fit the limit.
    """
    total = plan["documents"]
    size = sum(os.path.getsize(path) for path in plan["files"])
    count = min(total, plan["sample"], max(1, MAX_SAMPLE_BYTES * total // max(1, size)))
    return sorted(random.Random(plan["seed"]).sample(range(total), count))


def sentences(text: str) -> Iterator[str]:
    """Cut a document at sentence ends, and what is still too long at spaces, or anywhere where there are none."""
    for sentence in SENTENCE_END.split(text):
        while len(sentence.encode("utf-8")) > MAX_SENTENCE_BYTES:
            cut = MAX_SENTENCE_BYTES // 4  # characters: fits whatever their width
            space = sentence.rfind(" ", 1, cut)
            cut = space if space > 0 else cut
            yield sentence[:cut]
            sentence = sentence[cut:].lstrip(" ")
        if sentence:
            yield sentence


def sample(plan: Dict[str, Any]) -> Iterator[str]:
    """Yield sentences of the chosen documents and of their summaries."""
    wanted = chosen_documents(plan)
    for path in plan["files"]:
        remaining = iter(wanted)
        following = next(remaining, -1)
        with open(path, encoding="utf-8", newline="\n") as stream:
            for number, line in enumerate(stream):
                if number == following:
                    yield from sentences(line.rstrip("\n"))
                    following = next(remaining, -1)


def train(plan: Dict[str, Any], vocab_size: int) -> bytes:
    """Return the trained model, serialised."""
    result = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sample(plan),
        model_writer=result,
        model_type=plan["type"],
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=CHARACTER_COVERAGE,
        num_threads=THREADS,
        user_defined_symbols=plan["user_symbols"],
        normalization_rule_name="nmt_nfkc_cf" if plan["lowercase"] else "nmt_nfkc",
        minloglevel=1,
        **SPECIALS,
    )
    return result.getvalue()


def main() -> int:
    """Train by the plan named on the command line; on failure the last line of stderr says why."""
    with open(sys.argv[1], encoding="utf-8") as stream:
        plan = json.load(stream)
    try:
        model = train(plan, plan["vocab_size"])
    except (RuntimeError, OSError) as error:
        message = " ".join(str(error).split())
        needed = re.search(r"smaller than required_chars\.? *\d+ vs (\d+)", message)
        if needed:
            message = "--vocab-size {} is too small: the characters alone need {}".format(
                plan["vocab_size"], needed.group(1)
            )
        sys.stderr.write("\n" + message + "\n")
        return 1
    with open(plan["model"], "wb") as stream:
        stream.write(model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
