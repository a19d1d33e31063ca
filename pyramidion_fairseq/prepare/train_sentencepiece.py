"""Train sentencepiece: ``python train_sentencepiece.py PLAN.json``, in its own process so that it can be killed.

``vocabulary_stage`` writes the plan. The result depends only on the plan and the text: the sample is seeded, and the
number of threads is fixed because the rounding of sums in unigram training depends on it.
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
# sentencepiece's default of 0.9995 drops '?', '&' and most Greek letters of a biomedical corpus; this value keeps
# the 200 characters that occur in it more than ten times.
CHARACTER_COVERAGE = 0.99999
MAX_SENTENCE_BYTES = 4000  # below sentencepiece's limit of 4192, above which it drops a sentence
SENTENCE_END = re.compile(r"(?<=[.!?]) ")
# The same ids as in fairseq's dictionary, so that sentencepiece's ids are fairseq's.
SPECIALS: Dict[str, Any] = {"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3}


def chosen_documents(plan: Dict[str, Any]) -> List[int]:
    """Return the sorted indices of the documents to train on.

    There are at most ``sample``, and so few that their expected size is within :data:`MAX_SAMPLE_BYTES`.
    """
    total = plan["documents"]
    size = sum(os.path.getsize(path) for path in plan["files"])
    count = min(total, plan["sample"], max(1, MAX_SAMPLE_BYTES * total // max(1, size)))
    return sorted(random.Random(plan["seed"]).sample(range(total), count))


def sentences(text: str) -> Iterator[str]:
    """Split a document at the ends of sentences, and longer parts at spaces, or anywhere if there are no spaces."""
    for sentence in SENTENCE_END.split(text):
        while len(sentence.encode("utf-8")) > MAX_SENTENCE_BYTES:
            cut = MAX_SENTENCE_BYTES // 4  # in characters of at most four bytes
            space = sentence.rfind(" ", 1, cut)
            cut = space if space > 0 else cut
            yield sentence[:cut]
            sentence = sentence[cut:].lstrip(" ")
        if sentence:
            yield sentence


def sample(plan: Dict[str, Any]) -> Iterator[str]:
    """Yield the sentences of the chosen documents and of their summaries."""
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
    """Train a model and return it serialised."""
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
    """Train with the plan that the command line names; after a failure the last line of stderr is the reason."""
    with open(sys.argv[1], encoding="utf-8") as stream:
        plan = json.load(stream)
    try:
        model = train(plan, plan["vocab_size"])
    except (RuntimeError, OSError) as error:
        message = " ".join(str(error).split())
        needed = re.search(r"smaller than required_chars\.? *\d+ vs (\d+)", message)
        if needed:
            message = "--vocab-size {} is too small: the characters of the corpus alone need {}".format(
                plan["vocab_size"], needed.group(1)
            )
        sys.stderr.write("\n" + message + "\n")
        return 1
    with open(plan["model"], "wb") as stream:
        stream.write(model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
