"""Train a model on documents whose important words are known, and write its checkpoint."""

import torch
from torch.nn import functional

from tests.helpers.models import make_dictionary
from tests.helpers.summaries import write_checkpoint

#: Words of a document, words of its summary, size of the vocabulary: its first half is content, the other filler.
LENGTH, MARKED, WORDS = 64, 4, 64
SPECIAL = 4  # symbols before the words in the dictionary
SIZE = {
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_{name}": 64 for side in ("encoder", "decoder") for name in ("embed_dim", "ffn_embed_dim")},
    "block_size": 4,
    "pooling_schedule": "1:32,2:8",
    "max_source_positions": LENGTH + 1,
    "max_target_positions": MARKED + 2,
    "decoder_positions": True,
}


def draw(count: int, generator: torch.Generator):
    """Return (count, LENGTH + 1) documents of filler with MARKED content words, and summaries of these words."""
    half = WORDS // 2
    documents = torch.randint(SPECIAL + half, SPECIAL + WORDS, (count, LENGTH), generator=generator)
    places = torch.rand(count, LENGTH, generator=generator).topk(MARKED).indices.sort(dim=1).values
    summaries = torch.rand(count, half, generator=generator).topk(MARKED).indices + SPECIAL  # no word twice
    end = torch.full((count, 1), 2)
    return torch.cat([documents.scatter(1, places, summaries), end], 1), torch.cat([summaries, end], 1)


def train(model, updates: int, batch: int = 32, rate: float = 3e-3) -> float:
    """Train by Adam on new documents in every update; return the last loss, in nats per word."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 50, (updates - step) / (updates / 2))
    )
    model.train()
    for _ in range(updates):
        documents, summaries = draw(batch, generator)
        logits = model(documents, None, functional.pad(summaries[:, :-1], (1, 0), value=2))[0]
        loss = functional.cross_entropy(logits.flatten(0, 1), summaries.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return float(loss.detach())


def write_learned(folder, updates: int) -> tuple[str, float]:
    """Train a model and write its checkpoint and dictionaries; return the path and the last loss."""
    from fairseq.checkpoint_utils import load_model_ensemble

    for side in ("source", "target"):
        make_dictionary(SPECIAL + WORDS).save(str(folder / f"dict.{side}.txt"))
    path = write_checkpoint(folder, **SIZE)
    (model,), _ = load_model_ensemble([path])
    loss = train(model, updates)
    state = torch.load(path, weights_only=True)
    torch.save({**state, "model": model.state_dict()}, path)
    return path, loss


def held_out(count: int) -> list[str]:
    """Return documents that were in no update."""
    documents, _ = draw(count, torch.Generator().manual_seed(2))
    return [" ".join(f"w{word - SPECIAL}" for word in row[:-1]) for row in documents.tolist()]
