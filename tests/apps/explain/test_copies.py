"""Tests of what was copied for each token of a finished summary, compared with plain sums."""

import pytest
import torch

from pyramidion_fairseq.apps.explain import copies as module
from pyramidion_fairseq.apps.explain.attention import read_summaries
from pyramidion_fairseq.apps.explain.record import read_records
from pyramidion_fairseq.functional import CopySource, token_copies
from pyramidion_fairseq.generation.encoder_output import COPY_SOURCE
from tests.helpers.pointers import gated, repetitive

#: Gate logits with which the model certainly writes, copies or continues.
WRITE, COPY, CONTINUE = [60.0, 0.0, 0.0], [0.0, 60.0, 0.0], [0.0, 0.0, 60.0]


def summaries_of(documents, length=6, seed=3):
    """Return (B, length) summaries of words of the documents, one word that no document has, and </s>."""
    generator = torch.Generator().manual_seed(seed)
    rows = [row[torch.randint(0, int(row.ne(1).sum()) - 1, (length,), generator=generator)] for row in documents]
    summaries = torch.stack(rows)
    summaries[:, 2], summaries[:, -1] = 39, 2  # no document has word 39
    return summaries


def forced(model, bias):
    with torch.no_grad():
        model.decoder.pointer.gate.weight.zero_()
        model.decoder.pointer.gate.bias.copy_(torch.tensor(bias))
    return model


def read(model, documents, summaries):
    with torch.no_grad():
        encoded = model.encoder(documents, None)
    return encoded, read_summaries(model.decoder, summaries, encoded, eos=2)


@pytest.mark.parametrize(
    "options", [{}, {"pooling_schedule": ""}, {"attention": "lsg", "lsg_global_tokens": 3}, {"pooler": "mean_window"}],
    ids=str,
)  # fmt: skip
def test_copied_shares_and_places_match_the_mixed_probabilities(tiny_model, options):
    """Check Bayes' rule: the probability of copying a token from a place, divided by the token's mixed probability.

    Some tokens are unknown and cannot be copied; their share goes to writing.
    """
    model, documents = gated(tiny_model(pointer=True, **options)), repetitive([40, 17, 9])
    summaries = summaries_of(documents)
    documents[:, 1:8:3] = 3
    encoded, reading = read(model, documents, summaries)
    previous = torch.cat([torch.full((3, 1), 2), summaries[:, :-1]], dim=1)
    with torch.no_grad():
        logits, extra = model(documents, None, previous)
        mixed = model.get_normalized_probs((logits, extra), log_probs=False)
    pointer, source = extra["pointer"], CopySource(*encoded[COPY_SOURCE])
    every, _ = token_copies(pointer.attention, source, pointer.history, pointer.continued)
    found = 0
    for row, copies in enumerate(reading.copies):
        for step, token in enumerate(summaries[row].tolist()):
            gate = float(pointer.log_copy[row, step].exp())
            wanted = {
                place: gate * float(every[row, step, place] / mixed[row, step, token])
                for place in range(documents.size(1))
                if documents[row, place] == token and every[row, step, place] > 0
            }
            share = float(copies.shares[step])
            assert share == pytest.approx(sum(wanted.values()), abs=1e-9)
            pairs = zip(copies.positions[step].tolist(), copies.weights[step].tolist())
            given = {place: share * weight for place, weight in pairs if weight > 0}
            assert given == pytest.approx(wanted, abs=1e-9)
            assert copies.weights[step].tolist() == sorted(copies.weights[step].tolist(), reverse=True)
            found += len(wanted)
    assert found > 20 and all(copies.shares[2] == 0 for copies in reading.copies)


@pytest.mark.parametrize("bias", [WRITE, COPY, CONTINUE], ids=["write", "copy", "continue"])
@pytest.mark.parametrize("schedule", ["", "1:12,2:5"])
def test_certain_gates_give_certain_copies(tiny_model, bias, schedule):
    model = forced(tiny_model(pointer=True, pooling_schedule=schedule), bias)
    documents, summaries = torch.tensor([[5, 6, 7, 5, 8, 2]]), torch.tensor([[7, 5, 8, 39, 2]])
    _, (_, (copies,)) = read(model, documents, summaries)
    certain = float(bias != WRITE)
    assert copies.shares.tolist() == pytest.approx([certain, certain, certain, 0, certain], abs=1e-12)
    places = [
        {place for place, weight in zip(*pair) if weight > 0}
        for pair in zip(copies.positions.tolist(), copies.weights.tolist())
    ]
    # Continuing takes the token after the one copied before: of the two 5s, the one after 7.
    assert places == [{2}, {3} if bias == CONTINUE else {0, 3}, {4}, set(), {5}]
    assert copies.weights.sum(dim=1).tolist() == pytest.approx([1, 1, 1, 0, 1], abs=1e-12)


def test_small_budget_and_rows_do_not_change_copies(tiny_model, monkeypatch):
    model, documents = gated(tiny_model(pointer=True)), repetitive([40, 17, 9])
    summaries = summaries_of(documents)
    _, whole = read(model, documents, summaries)
    monkeypatch.setattr("pyramidion_fairseq.apps.explain.attention.BUDGET", 1)
    monkeypatch.setattr(module, "ROWS", 2)
    encoded, parts = read(model, documents, summaries)
    for one, other in zip(whole.copies, parts.copies):
        torch.testing.assert_close(one.shares, other.shares, rtol=0, atol=1e-6)
        torch.testing.assert_close(one.weights, other.weights, rtol=0, atol=1e-6)
    torch.testing.assert_close(parts.attention, read_summaries(model.decoder, summaries, encoded, eos=2).attention)
    torch.testing.assert_close(whole.attention.sum(dim=2), torch.ones_like(whole.attention[..., 0]))


def test_only_the_most_probable_places_are_kept(tiny_model, monkeypatch):
    model, documents = gated(tiny_model(pointer=True, pooling_schedule="")), torch.full((1, 30), 7)
    documents[0, -1] = 2
    summaries = torch.tensor([[7, 7, 2]])
    _, whole = read(model, documents, summaries)
    monkeypatch.setattr(module, "PLACES", 4)
    _, few = read(model, documents, summaries)
    assert few.copies[0].positions.shape == (3, 4) and few.copies[0].weights[0].sum() < 1
    assert torch.equal(few.copies[0].positions[:2], whole.copies[0].positions[:2, :4])
    torch.testing.assert_close(few.copies[0].shares, whole.copies[0].shares)


def test_records_keep_copies_of_each_summarys_own_tokens(tiny_model):
    model, documents = gated(tiny_model(pointer=True)), repetitive([40, 17])
    summaries = summaries_of(documents)
    encoded, reading = read(model, documents, summaries)
    first, second = read_records(model.encoder, encoded, reading.attention, [6, 4], reading.copies)
    assert first.copies.shares.shape == (6,) and second.copies.positions.size(0) == second.copies.weights.size(0) == 4
    assert torch.equal(second.copies.shares, reading.copies[1].shares[:4])


def test_plain_model_has_no_copies(tiny_model):
    model, documents = tiny_model(), repetitive([40, 17])
    encoded, reading = read(model, documents, summaries_of(documents))
    assert reading.copies is None
    (first, _) = read_records(model.encoder, encoded, reading.attention, [6, 4], reading.copies)
    assert first.copies is None
