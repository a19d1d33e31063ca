"""Options, data and logs of the stock commands on a small corpus."""

import json
import re

import torch

from tests.helpers.corpora import write_split
from tests.helpers.models import TINY, make_dictionary

USER_DIR = ["--user-dir", "pyramidion_fairseq"]


def flags(**options):
    return [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]


SIZES = {name: value for name, value in TINY.items() if name.endswith(("layers", "dim", "heads", "size", "positions"))}
ARCH = ["--arch", "deeppyramidion", *flags(**SIZES, pooling_schedule="1:12,2:5", dropout=0.1)]
TRAIN = [
    *USER_DIR, *ARCH, "--cpu", "--optimizer", "adam", "--lr", "0.003", "--lr-scheduler", "fixed", "--seed", "7",
    "--log-format", "json", "--log-interval", "1", "--batch-size", "6", "--num-workers", "0",
    "--criterion", "label_smoothed_cross_entropy", "--no-epoch-checkpoints",
]  # fmt: skip
TASK = ["--task", "long_document_summarization"]
LENGTHS = {"train": [5 + 13 * i % 150 for i in range(40)], "valid": [1, 5, 12, 64, 65], "test": [1, 5, 6, 64, 2000]}


def write_corpus(folder, words, **lengths):
    """Write documents of random words, from 1 token to far too many, with their first words as summaries.

    ``lengths`` are those of a split's documents, instead of :data:`LENGTHS`.
    """
    for side in ("source", "target"):
        make_dictionary(words).save(str(folder / f"dict.{side}.txt"))
    generator = torch.Generator().manual_seed(0)
    for split, chosen in {**LENGTHS, **lengths}.items():
        documents = [[*torch.randint(4, words, (n - 1,), generator=generator).tolist(), 2] for n in chosen]
        write_split(folder, split, documents, [[*document[:-1][:6], 2] for document in documents])


def training_log(stdout):
    """Return {(kind, update): loss} of the updates ("train") and of the validations ("valid")."""
    rows = [json.loads(row) for row in re.findall(r"\| (?:train_inner|valid) \| (\{.*\})", stdout)]
    train = {("train", int(row["num_updates"])): float(row["loss"]) for row in rows if "loss" in row}
    valid = {("valid", int(row["valid_num_updates"])): float(row["valid_loss"]) for row in rows if "valid_loss" in row}
    return {**train, **valid}


def summaries(stdout):
    return {int(i): text for i, text in re.findall(r"^D-(\d+)\t[-\d.]+\t(.*)$", stdout, re.M)}


BEAM = ["--beam", 2, "--max-len-b", 10]
