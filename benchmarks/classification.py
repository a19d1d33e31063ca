"""Measure accuracy and speed of classifiers of long documents at increasing pooling.

    python benchmarks/classification.py --output benchmarks/results/classification_cpu

Documents are the documentation of Python modules (prepare/python_docs.py), and labels are their packages. Documents of
fewer than ``--shortest`` tokens and packages with few documents are omitted. A small encoder is trained from scratch
for each row and seed: full attention at 512 tokens, LSG attention at full length, and LSG pooled by successive
halving, by hard top-k, and by PoWER's column sums (scorer attention_sum). All rows of a seed see the same batches.
Accuracy is measured on test documents. At the end, an update and the classification of single documents are timed for
all rows in turns, with random weights.

Each trained row is a line of classification.jsonl in --output, so that an interrupted run continues. The whole takes
about an hour on one core.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import statistics
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import measure
import sentencepiece
import torch
import torch.nn.functional as F
from outputs import read_rows
from torch import Tensor

from pyramidion_fairseq.interop.dictionary_files import make_dictionary
from pyramidion_fairseq.models.roberta import LSGRobertaModel
from pyramidion_fairseq.prepare.cleaning import clean
from pyramidion_fairseq.prepare.errors import BadRecord
from pyramidion_fairseq.prepare.python_docs import PythonDocs

HEAD = "sentence_classification_head"
LONG = 4096
LSG = {"attention": "lsg", "max_positions": LONG, "lsg_block_size": 64, "lsg_sparse_block_size": 64}
POOLED = {**LSG, "pooling_schedule": "1:512,2:128"}
#: Row -> the options of the model that differ from the defaults.
ROWS: dict[str, dict[str, Any]] = {
    "full attention, 512 tokens": {"attention": "full", "max_positions": 512},
    "LSG": LSG,
    "LSG, successive halving": POOLED,
    "LSG, hard top-k": {**POOLED, "pooler": "hard_topk"},
    "LSG, PoWER's column sums": {**POOLED, "pooler": "hard_topk", "scorer": "attention_sum"},
}


class Corpus(NamedTuple):
    """Documents as ids with ``<s>`` and ``</s>``, and their classes."""

    train: list[tuple[list[int], int]]
    test: list[tuple[list[int], int]]
    classes: list[str]
    symbols: list[str]


def read_texts(most: int, roots: list[str] | None = None) -> list[tuple[str, str]]:
    """Return (text, package) of the modules of this Python installation, every text once, in the order of names."""
    reader, found, seen = PythonDocs(roots, by_package=True), [], set()
    for raw in reader.records():
        try:
            parsed = reader.parse(raw)
        except BadRecord:
            continue
        text = clean(parsed.document)
        digest = hashlib.sha256(text.encode("utf-8")).digest()
        if digest not in seen and len(text) > most:
            seen.add(digest)
            found.append((text, parsed.summary))
    return found


def make_corpus(texts: list[tuple[str, str]], args: argparse.Namespace) -> Corpus:
    """Choose classes and documents, train sentencepiece on what is trained on, and encode.

    A document is for testing by the hash of its text, one in four. Package names are no part of what is learnt: they
    stand in documents only where their authors wrote them.
    """
    tests = [int(hashlib.sha256(text.encode("utf-8")).hexdigest(), 16) % 4 == 0 for text, _ in texts]
    train_texts = [text for (text, _), is_test in zip(texts, tests) if not is_test]
    folder = args.scratch
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text[i : i + 4000] for text in train_texts for i in range(0, len(text), 4000)]),
        model_prefix=str(folder / "sentencepiece"),
        vocab_size=args.vocabulary,
        hard_vocab_limit=False,
        input_sentence_size=20000,
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.model"))
    ids = [[piece + 1 for piece in processor.encode(text)] for text, _ in texts]
    long = [len(tokens) >= args.shortest for tokens in ids]
    counts = Counter(package for (_, package), kept in zip(texts, long) if kept)
    classes = sorted(package for package, count in counts.items() if count >= args.least)
    kept: Counter[str] = Counter()
    parts: tuple[list[Any], list[Any]] = ([], [])
    for (_, package), tokens, is_long, is_test in zip(texts, ids, long, tests):
        if is_long and package in classes and kept[package] < args.most:
            kept[package] += 1
            parts[is_test].append(([0, *tokens[: LONG - 2], 2], classes.index(package)))
    pieces = [processor.id_to_piece(number) for number in range(3, processor.get_piece_size())]
    return Corpus(parts[0], parts[1], classes, ["<s>", "<pad>", "</s>", "<unk>", *pieces, "<mask>"])


def fingerprint(corpus: Corpus) -> str:
    """Return a fingerprint of the corpus, which differs between Python installations."""
    return hashlib.sha256(json.dumps(corpus).encode("utf-8")).hexdigest()[:16]


def build(options: dict[str, Any], corpus: Corpus, seed: int, args: argparse.Namespace) -> LSGRobertaModel:
    """Return a fresh model with a head for the corpus's classes."""
    torch.manual_seed(seed)
    size = {"encoder_layers": 3, "encoder_embed_dim": args.width, "encoder_ffn_embed_dim": 4 * args.width}
    given = {**size, "encoder_attention_heads": 4, "dropout": 0.1, "attention_dropout": 0.0, **options}
    task = Namespace(source_dictionary=make_dictionary(corpus.symbols))
    model = LSGRobertaModel.build_model(Namespace(**given), task)
    model.register_classification_head(HEAD, num_classes=len(corpus.classes))
    return model


def batch_of(rows: list[tuple[list[int], int]], longest: int) -> tuple[Tensor, Tensor]:
    """Return (B, T) right-padded ids, cut to ``longest``, and (B,) classes."""
    tensors = [torch.tensor([*tokens[: longest - 1], 2] if len(tokens) > longest else tokens) for tokens, _ in rows]
    tokens = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=1)
    return tokens, torch.tensor([label for _, label in rows])


class Training:
    """AdamW with a warm-up and a linear decay."""

    def __init__(self, model: LSGRobertaModel, corpus: Corpus, seed: int, args: argparse.Namespace):
        self.model, self.corpus, self.args, self.done = model, corpus, args, 0
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
        self.generator = torch.Generator().manual_seed(seed)

    def update(self) -> None:
        """Take a step with the next batch."""
        args, model, warm = self.args, self.model.train(), max(1, self.args.updates // 10)
        rows = torch.randint(len(self.corpus.train), (args.batch,), generator=self.generator).tolist()
        tokens, labels = batch_of([self.corpus.train[row] for row in rows], model.max_positions())
        for group in self.optimizer.param_groups:
            group["lr"] = args.lr * min((self.done + 1) / warm, (args.updates - self.done) / (args.updates - warm + 1))
        loss = F.cross_entropy(model(tokens, classification_head_name=HEAD)[0], labels)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.optimizer.step()
        self.done += 1


def evaluate(model: LSGRobertaModel, rows: list[tuple[list[int], int]]) -> float:
    """Return the accuracy, classifying one document at a time."""
    model.eval()
    right = 0
    for row in rows:
        tokens, labels = batch_of([row], model.max_positions())
        right += int(model.predict(HEAD, tokens)[0].argmax() == labels[0])
    return right / len(rows)


def run_rows(corpus: Corpus, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and test every row with every seed; rows in classification.jsonl are not run again."""
    path = args.output / "classification.jsonl" if args.output else None
    settings = {**{name: getattr(args, name) for name in SETTINGS}, "corpus": fingerprint(corpus)}
    done = read_rows(path) if path else []
    done = [row for row in done if row["settings"] == settings and row["seed"] <= args.seeds]
    for seed in range(1, args.seeds + 1):
        for name, options in ROWS.items():
            if any(row["row"] == name and row["seed"] == seed for row in done):
                continue
            model = build(options, corpus, seed, args)
            training = Training(model, corpus, seed, args)
            for _ in range(args.updates):
                training.update()
            accuracy = evaluate(model, corpus.test)
            done.append({"row": name, "seed": seed, "accuracy": accuracy, "settings": settings})
            if path:
                with open(path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(done[-1]) + "\n")
            print(f"{name}, seed {seed}: accuracy {accuracy:.3f}", flush=True)
    return done


def seconds_of(corpus: Corpus, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the median seconds of an update and of a document, "update" and "document", of every row."""
    some = corpus.test[:: max(1, len(corpus.test) // TIMED)][:TIMED]
    models = {name: build(options, corpus, 1, args) for name, options in ROWS.items()}
    updates = {name: Training(model, corpus, 1, args).update for name, model in models.items()}
    documents = {name: functools.partial(evaluate, model, some) for name, model in models.items()}
    found: dict[str, dict[str, float]] = {name: {} for name in ROWS}
    for what, calls, count in (("update", updates, 1), ("document", documents, len(some))):
        for name, times in measure.alternate(calls, args.rounds, args.device).items():
            found[name][what] = times.median / count
    return found


def summarise(done: list[dict[str, Any]], seconds: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Return one row for each of :data:`ROWS`: mean and range of the seeds' accuracies, and its seconds."""
    found = []
    for name in ROWS:
        rows = [row for row in done if row["row"] == name]
        accuracies = [row["accuracy"] for row in rows]
        found.append(
            {
                "row": name,
                "accuracy": statistics.mean(accuracies),
                "least": min(accuracies),
                "most": max(accuracies),
                **seconds[name],
            }
        )
    return found


def table(rows: list[dict[str, Any]], corpus: Corpus) -> str:
    """Return the table; times relative to LSG without poolings."""
    lengths = [len(tokens) for tokens, _ in (*corpus.train, *corpus.test)]
    largest = Counter(label for _, label in corpus.test).most_common(1)[0][1] / len(corpus.test)
    whole = next(row for row in rows if row["row"] == "LSG")
    head = (
        f"{len(corpus.train)} training and {len(corpus.test)} test documents of {len(corpus.classes)} packages, "
        f"{statistics.median(lengths):,.0f} tokens in the middle, {max(lengths):,} at most; the largest class is "
        f"{largest:.1%} of the test documents.\n\n"
    )
    names = ["model", "accuracy %", "from", "to", "s an update", "s a document", "times as fast as LSG"]
    cells = [
        [
            *(row["row"], 100 * row["accuracy"], 100 * row["least"], 100 * row["most"]),
            *(row["update"], row["document"], whole["document"] / row["document"]),
        ]
        for row in rows
    ]
    return head + measure.table(names, cells)


def plot(rows: list[dict[str, Any]]) -> Any:
    """Plot the accuracy over the seconds per document, with the range of the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4.5))
    for row in rows:
        low, high = (100 * abs(row["accuracy"] - row[end]) for end in ("least", "most"))
        axis.errorbar(
            row["document"], 100 * row["accuracy"], yerr=[[low], [high]], fmt="o", capsize=4, label=row["row"]
        )
    axis.set(xlabel="seconds a document", ylabel="accuracy, %, mean and range of the seeds", xlim=(0, None))
    axis.legend(fontsize=8)
    return figure


#: Number of test documents that are timed.
TIMED = 16
#: Options that a row's accuracy depends on.
SETTINGS = ("shortest", "least", "most", "vocabulary", "width", "updates", "batch", "lr")


def options() -> argparse.ArgumentParser:
    """Return the command's options."""
    parser = measure.parser(__doc__, rounds=5, precisions=(), devices=("cpu",), sizes=())
    add = parser.add_argument
    add("--seeds", type=int, default=3, help="runs per row")
    add("--shortest", type=int, default=1024, help="minimum tokens of a document")
    add("--least", type=int, default=20, help="minimum documents of a package")
    add("--most", type=int, default=60, help="maximum documents of a package")
    add("--vocabulary", type=int, default=4000, help="pieces of sentencepiece")
    add("--width", type=int, default=64, help="width of the encoder")
    add("--updates", type=int, default=300, help="updates per training")
    add("--batch", type=int, default=4, help="documents per update")
    add("--lr", type=float, default=1e-3, help="largest learning rate")
    add("--scratch", type=Path, default=Path(".classification"), help="folder for the sentencepiece model")
    return parser


def main() -> None:
    """Run the benchmark."""
    parser = options()
    args = measure.parse(parser)
    if min(args.seeds, *(getattr(args, name) for name in SETTINGS if name != "lr")) < 1 or not args.lr > 0:
        parser.error("--lr must be more than 0, all other numbers at least 1")
    torch.set_num_threads(1)
    corpus = make_corpus(read_texts(2 * args.shortest), args)
    if len(corpus.classes) < 2 or not corpus.test:
        raise SystemExit("too few documents: lower --shortest or --least")
    done = run_rows(corpus, args)
    rows = summarise(done, seconds_of(corpus, args))
    figure = measure.draw(lambda: plot(rows), args.output)
    measure.report("classification", args.device, rows, [table(rows, corpus)], args.output, figure)


if __name__ == "__main__":
    main()
