"""Measure the recall of relevant tokens by trained scorers, on synthetic documents.

    python benchmarks/selection.py --output results/selection

In each document, one token in sixteen is a content word, and the others are filler. The summary consists of the
content words in order. A small Transpooler keeps one token in eight, so random selection has a recall of 0.125.
Variants are trained from the same seed on the same documents with the package's own model. Recall is measured on new
documents by the record of the pooling, where the token with the largest weight in a slot counts as kept. Tables 2 and
4 of the paper compare scorers by ROUGE, and do not measure recall.

The encoder attends in blocks of 4 tokens, so that content words can hardly move into tokens that are kept anyway.

This takes minutes on two CPU cores.
"""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

import measure
import torch
import torch.nn.functional as F
from fairseq.data import Dictionary
from torch import Tensor

from pyramidion_fairseq.models import PyramidionModel
from pyramidion_fairseq.poolers import POOLERS
from pyramidion_fairseq.scorers import SCORERS

LENGTH, KEPT, MARKED = 128, 16, 8
CONTENT, FILLER = 32, 32  # words of either kind; ids follow the dictionary's four special symbols
SPECIAL = 4

#: (scorer, pooler), as on the command line; no scorer for poolers that do not use one.
VARIANTS = [
    *((scorer, "successive_halving") for scorer in SCORERS.names()),
    ("attention_sum", "hard_topk"),
    *(("linear", name) for name in POOLERS.names() if POOLERS.get(name).uses_scores and name != "successive_halving"),
    *(("-", name) for name in POOLERS.names() if not POOLERS.get(name).uses_scores),
]

#: How summary words are made: from the vocabulary alone; or copied too, with or without a gradient through the weights
#: of the poolings to the scorer.
COPYING = {
    "-": {},
    "pointer": {"pointer": True},
    "detached": {"pointer": True, "pointer_detach_weights": True},
}

OPTIONS = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    **{f"{side}_{size}": 64 for side in ("encoder", "decoder") for size in ("embed_dim", "ffn_embed_dim")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    "block_size": 4,
    "index_stride": LENGTH // KEPT,
    "sinkhorn_iterations": 30,  # a few of the default 200: else this one variant takes longer than all others
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "decoder_positions": True,  # else one layer could not tell how many words it has written
    "share_all_embeddings": True,
}


def make_documents(
    count: int, generator: torch.Generator, length: int = LENGTH, noise: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw documents.

    Args:
        count: how many.
        generator: of the random numbers.
        length: n, tokens in each; one in sixteen is a content word.
        noise: share of the summary words that are replaced by random content words.

    Returns:
        (count, n) ids; (count, n) bool, True on content words; (count, n / 16) ids, the summaries.
    """
    marks = length * MARKED // LENGTH
    tokens = torch.randint(SPECIAL + CONTENT, SPECIAL + CONTENT + FILLER, (count, length), generator=generator)
    positions = torch.rand(count, length, generator=generator).topk(marks).indices.sort(dim=1).values
    summaries = torch.randint(SPECIAL, SPECIAL + CONTENT, (count, marks), generator=generator)
    marked = torch.zeros(count, length, dtype=torch.bool).scatter(1, positions, True)
    tokens = tokens.scatter(1, positions, summaries)
    if noise:
        other = torch.randint(SPECIAL, SPECIAL + CONTENT, (count, marks), generator=generator)
        summaries = torch.where(torch.rand(count, marks, generator=generator) < noise, other, summaries)
    return tokens, marked, summaries


def kept_tokens(slots: Tensor, weights: Tensor, k: int) -> Tensor:
    """Return (B, n) record of a pooling -> (B, n) bool, True on each slot's token with the largest weight."""
    shares = torch.where(slots.unsqueeze(1) == torch.arange(k).view(1, k, 1), weights.unsqueeze(1), -1.0)
    best = shares.max(dim=2)
    return torch.zeros_like(weights).scatter_add(1, best.indices, (best.values > 0).to(weights.dtype)) > 0


def build(scorer: str, pooler: str, seed: int, copying: str = "-", length: int = LENGTH) -> PyramidionModel:
    """Build a small Transpooler with the given parts, for documents of equal length, initialised from the seed."""
    torch.manual_seed(seed)
    dictionary = Dictionary()
    for word in range(CONTENT + FILLER):
        dictionary.add_symbol(f"w{word}")
    parts = {"pooler": pooler, **COPYING[copying], **({} if scorer == "-" else {"scorer": scorer})}
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    lengths = {
        "pooling_schedule": f"1:{length * KEPT // LENGTH}",
        "max_source_positions": length,
        "max_target_positions": length * MARKED // LENGTH + 1,
    }
    return PyramidionModel.build_model(Namespace(**{**OPTIONS, **lengths, **parts}), task)


def predict(model: PyramidionModel, tokens: Tensor, summaries: Tensor) -> Tensor:
    """Return the log probabilities (B, MARKED, V) of every summary word given those before it."""
    shifted = F.pad(summaries[:, :-1], (1, 0), value=2)
    return model.get_normalized_probs(model(tokens, None, shifted), log_probs=True)


def train(
    scorer: str,
    pooler: str,
    steps: int,
    batch: int = 32,
    seed: int = 1,
    rate: float = 1e-3,
    copying: str = "-",
    length: int = LENGTH,
    noise: float = 0.0,
) -> dict[str, Any]:
    """Train one variant and measure it on new documents.

    Args:
        scorer, pooler: names; "-" as the scorer of a pooler without one.
        steps: updates with Adam.
        batch: documents per update.
        seed: of initialisation and documents.
        rate: the learning rate, after a warm-up of 50 updates.
        copying: of :data:`COPYING`.
        length: n, tokens in a document; one in eight is kept.
        noise: share of the summary words of training that are random.

    Returns:
        recall: share of content words kept, None where nothing is selected; accuracy: share of summary words
        predicted, given those before; scorer_gradient: largest absolute gradient that a scorer's parameter ever got,
        None where it has no parameters; loss: nats per word on the new documents; seconds.
    """
    model = build(scorer, pooler, seed, copying, length)
    documents = torch.Generator().manual_seed(seed)
    pooling = model.encoder.poolings["1"]
    learned = list(pooling.parameters())
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 50))
    largest, started = 0.0, time.perf_counter()
    model.train()
    for _ in range(steps):
        tokens, _, summaries = make_documents(batch, documents, length, noise)
        loss = F.nll_loss(predict(model, tokens, summaries).flatten(0, 1), summaries.flatten())
        optimizer.zero_grad()
        loss.backward()
        largest = max([largest, *(p.grad.abs().max().item() for p in learned)])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - started
    return {
        "scorer": scorer,
        "pooler": pooler,
        "copying": copying,
        **evaluate(model, seed, length=length),
        "scorer_gradient": largest if learned else None,
        "seconds": seconds,
    }


@torch.no_grad()
def evaluate(model: PyramidionModel, seed: int, count: int = 256, length: int = LENGTH) -> dict[str, Any]:
    """Measure recall, accuracy and loss on ``count`` documents without noise that no seed of :func:`train` draws."""
    model.eval()
    tokens, marked, summaries = make_documents(count, torch.Generator().manual_seed(10**6 + seed), length)
    scores = predict(model, tokens, summaries)
    encoded = model.encoder(tokens, None)
    kept = kept_tokens(encoded["pooling_slots"][0], encoded["pooling_weights"][0], length * KEPT // LENGTH)
    selects = model.encoder.poolings["1"].pooler.uses_scores
    return {
        "recall": (kept & marked).sum().item() / marked.sum().item() if selects else None,
        "accuracy": scores.argmax(dim=2).eq(summaries).float().mean().item(),
        "loss": F.nll_loss(scores.flatten(0, 1), summaries.flatten()).item(),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    names = ["scorer", "pooler", "copying", "recall", "accuracy", "loss", "scorer_gradient", "seconds"]
    titles = [{"scorer_gradient": "largest scorer gradient"}.get(name, name) for name in names]
    return measure.table(titles, [[result[name] for name in names] for result in results])


def plot(results: list[dict[str, Any]]) -> Any:
    """Plot the recall of each selecting variant as bars, and chance as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [r for r in results if r["recall"] is not None][::-1]
    figure, axes = pyplot.subplots(figsize=(7, 0.4 * len(shown) + 1.2))
    names = [" + ".join(r[part] for part in ("scorer", "pooler", "copying") if r[part] != "-") for r in shown]
    axes.barh(names, [r["recall"] for r in shown], color="tab:blue")
    axes.axvline(KEPT / LENGTH, color="black", linestyle="--", label=f"chance ({KEPT / LENGTH})")
    axes.set_xlabel(f"recall of content words, {KEPT} of {LENGTH} tokens kept")
    axes.set_xlim(0, 1)
    axes.legend(loc="lower right")
    return figure


def main() -> None:
    """Run the command line; see the file's docstring."""
    parser = measure.parser(__doc__, rounds=0, precisions=(), devices=("cpu",), sizes=())
    parser.add_argument("--steps", type=int, default=800, help="updates per variant (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of initialisation and documents (default: %(default)s)"
    )
    parser.add_argument("--poolers", nargs="*", choices=POOLERS.names(), help="only variants with these poolers")
    parser.add_argument(
        "--copying",
        action="store_true",
        help="only the linear scorer, with and without a gradient through the pointer's weights",
    )
    args = measure.parse(parser)
    if args.steps < 1:
        parser.error("--steps must be at least 1")
    variants = [("linear", "successive_halving", copying) for copying in COPYING]
    if not args.copying:
        variants = [(scorer, pooler, "-") for scorer, pooler in VARIANTS]
    variants = [variant for variant in variants if not args.poolers or variant[1] in args.poolers]
    if not variants:
        parser.error("--copying trains with successive_halving alone: leave --poolers out")
    results = []
    for scorer, pooler, copying in variants:
        results.append(train(scorer, pooler, args.steps, seed=args.seed, copying=copying))
        print(table(results[-1:]).splitlines()[-1], flush=True)
    settings = {"length": LENGTH, "kept": KEPT, "marked": MARKED, "steps": args.steps, "seed": args.seed}
    found = {"settings": settings, "chance": KEPT / LENGTH, "variants": results}
    drawing = measure.draw(lambda: plot(results), args.output)
    measure.report("selection", "cpu", found, [table(results)], args.output, drawing)


if __name__ == "__main__":
    main()
