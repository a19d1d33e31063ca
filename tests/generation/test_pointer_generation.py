"""Tests of generation with ``--pointer``: every search, ensembles, shrinking batches, graphed steps."""

import contextlib

import pytest
import torch

from pyramidion_fairseq.generation import cuda_graphs, plain_generation
from tests.helpers.generation import RAGGED, STRATEGIES, assert_same, generate
from tests.helpers.models import make_dictionary
from tests.helpers.pointers import ROUNDING, gated, repetitive
from tests.helpers.recording import replay  # noqa: F401 -- a fixture

SEARCHES = {
    **{name: {"strategy": strategy, "prefix": prefix} for name, (strategy, prefix) in STRATEGIES.items()},
    "blocked n-grams": {"no_repeat_ngram_size": 2, "max_len_b": 24, "min_len": 12},
    "documents that finish": {"beam_size": 5, "max_len_b": 28},
}


def search(models, tokens, strategy=None, prefix=None, **options):
    chosen = strategy(make_dictionary(40)) if strategy else None
    forced = None if prefix is None else torch.tensor(prefix)
    return generate(models, tokens, chosen, forced, **{"beam_size": 4, **options})


@pytest.fixture
def pointing(confident_model, exact_softmax):
    """Return a builder of one model with a pointer, or with two more: another pointer layer, and no pointer."""

    def build(ensemble):
        others = [{"pointer": True, "pointer_layer": 1, "pooling_schedule": "2:7"}, {"decoder_layers": 1}]
        more = [confident_model(seed + 1, **options) for seed, options in enumerate(others)] if ensemble else []
        models = [confident_model(pointer=True), *more]
        return [gated(model) if model.decoder.pointer else model for model in models]

    return build


@pytest.mark.parametrize("ensemble", [False, True], ids=["one model", "ensemble"])
@pytest.mark.parametrize("options", SEARCHES.values(), ids=SEARCHES)
def test_pointer_generation_is_the_same_plain_cached_and_graphed(pointing, replay, options, ensemble):  # noqa: F811
    models, tokens, found = pointing(ensemble), repetitive(RAGGED), {}
    for context in (contextlib.nullcontext, plain_generation, cuda_graphs):
        with context(*models) if context is not contextlib.nullcontext else context():
            found[context] = search(models, tokens, **options)
    assert_same(found[contextlib.nullcontext], found[plain_generation], ROUNDING)
    assert_same(found[cuda_graphs], found[contextlib.nullcontext])
    assert replay.made and replay.replayed > replay.made


def test_documents_in_shrinking_batches_are_summarised_as_alone(pointing, monkeypatch):
    """Check that finished documents leave the batch, and that the others keep what they can copy."""
    (model,), tokens, rows = pointing(False), repetitive(RAGGED), []
    forward = model.decoder.forward
    monkeypatch.setattr(
        model.decoder, "forward", lambda t, *args, **kw: rows.append(len(t)) or forward(t, *args, **kw)
    )
    together = search([model], tokens, **SEARCHES["documents that finish"])
    assert len(set(rows)) > 2 and rows == sorted(rows, reverse=True)
    for document, hypotheses in zip(tokens, together):
        alone = search([model], document[document != 1].unsqueeze(0), **SEARCHES["documents that finish"])
        assert_same([hypotheses], alone, ROUNDING)


def test_blocked_ngrams_are_not_repeated(pointing):
    options = SEARCHES["blocked n-grams"]
    models, tokens = pointing(False), repetitive(RAGGED)
    free = search(models, tokens, **{**options, "no_repeat_ngram_size": 0})
    pairs = [list(zip(row, row[1:])) for found in (free, search(models, tokens, **options)) for row in rows_of(found)]
    repeated = [len(row) - len(set(row)) for row in pairs]
    assert max(repeated[: len(free)]) > 0 and not any(repeated[len(free) :])


def rows_of(found):
    """Return the best hypothesis of each document, without </s>."""
    return [hypotheses[0]["tokens"].tolist()[:-1] for hypotheses in found]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.05}, {"beam_size": 1}], ids=str)
def test_pointer_scores_are_finite_in_half_precision(tiny_model, dtype, options):
    """Check both ways to generate, also for documents without anything to copy."""
    model = gated(tiny_model(pointer=True)).to(dtype)
    tokens = torch.cat([repetitive(RAGGED), torch.ones(2, 40, dtype=torch.int64)])
    tokens[-2:, :3], tokens[-1, 0] = torch.tensor([3, 3, 2]), 1
    for context in (contextlib.nullcontext(), plain_generation(model)):
        with context:
            for hypotheses in generate([model], tokens, **options):
                assert all(hypothesis["positional_scores"].isfinite().all() for hypothesis in hypotheses)
