"""Tests of how copies of tokens become copies of words: shares, places, and words of several tokens."""

import dataclasses
import json

import pytest
import torch

from pyramidion_fairseq.apps.explain import Explanation
from pyramidion_fairseq.apps.explain.copies import TokenCopies
from pyramidion_fairseq.apps.explain.explanation import explain_summary
from tests.helpers.provenances import RECORD, provenance
from tests.helpers.summaries import article

#: The words of the document's tokens 0 to 5 (-1: </s>). The summary's tokens belong to the words x, y, y, and </s>.
TOKEN_WORDS = (0, 0, 1, 2, 3, -1)
CLOSE = {"rel": 1e-5, "abs": 1e-6}


def copies(shares, *rows):
    """Return TokenCopies; ``rows`` has {position: weight} of each token."""
    width = max(map(len, rows))
    pairs = [[*row.items(), *[(5, 0.0)] * (width - len(row))] for row in rows]
    places = torch.tensor([[place for place, _ in row] for row in pairs])
    weights = torch.tensor([[weight for _, weight in row] for row in pairs])
    return TokenCopies(torch.tensor(shares), places, weights)


def explained(*found):
    models = [dataclasses.replace(RECORD, copies=each) for each in found]
    return explain_summary(provenance(*models), None).summary


def test_copied_shares_and_places_match_hand_computed_values():
    summary = explained(copies([0.5, 1.0, 0.25, 1.0], {2: 0.75, 4: 0.25}, {3: 1.0}, {0: 1.0}, {5: 1.0}))
    assert summary.copied == pytest.approx((0.5, 0.625), **CLOSE)
    x, y = summary.places
    assert [word for word, _ in x] == [1, 3] and [w for _, w in x] == pytest.approx([0.375, 0.125], **CLOSE)
    assert [word for word, _ in y] == [2, 0] and [w for _, w in y] == pytest.approx([0.5, 0.125], **CLOSE)


def test_word_of_two_tokens_is_placed_where_both_are_in_one_word():
    """Check the places of word y: word 0 has both of its tokens in order, words 1 and 3 have one each."""
    both = explained(copies([0, 1.0, 1.0, 0], {2: 1.0}, {0: 0.6, 2: 0.4}, {1: 0.7, 4: 0.3}, {5: 1.0}))
    assert both.places[1] == ((0, pytest.approx(0.65, **CLOSE)),)
    # With little weight on word 0, the other words that were copied from are listed, too.
    little = explained(copies([0, 1.0, 1.0, 0], {2: 1.0}, {0: 0.1, 2: 0.9}, {1: 0.1, 4: 0.9}, {5: 1.0}))
    assert [word for word, _ in little.places[1]] == [1, 3, 0]
    # Both tokens of word 0, in the wrong order.
    swapped = explained(copies([0, 1.0, 1.0, 0], {2: 1.0}, {1: 1.0}, {0: 1.0}, {5: 1.0}))
    assert swapped.places[1] == ((0, pytest.approx(1.0)),)


def test_eos_of_the_document_is_not_a_place():
    summary = explained(copies([1.0, 1.0, 1.0, 1.0], {5: 1.0}, {3: 1.0}, {5: 0.5, 4: 0.5}, {5: 1.0}))
    assert summary.places[0] == () and summary.copied == (1.0, 1.0)
    # Positions 3 and 4 are adjacent, but belong to two words.
    assert summary.places[1] == ((2, pytest.approx(0.5)), (3, pytest.approx(0.25)))


def test_ranking_counts_copied_mass_at_the_words_copied_from():
    """Check with plain loops that the rest of each token counts by attention times the weights of the poolings."""
    found = copies([0.5, 1.0, 0.25, 1.0], {2: 0.75, 4: 0.25}, {3: 1.0}, {0: 1.0}, {5: 1.0})
    plain, explanation = (
        explain_summary(provenance(model), None) for model in (RECORD, dataclasses.replace(RECORD, copies=found))
    )
    taken = [0.0] * 5
    for step in range(3):
        share = float(found.shares[step])
        for position, weight in zip(found.positions[step].tolist(), found.weights[step].tolist()):
            if TOKEN_WORDS[position] >= 0:
                taken[TOKEN_WORDS[position]] += share * weight
        for token, word in enumerate(TOKEN_WORDS):
            if word >= 0:
                read = RECORD.attention[step, RECORD.decoder.slots[token]] * RECORD.decoder.weights[token]
                taken[word] += (1 - share) * float(read)
    sums = [sum(taken[start:end]) for start, end in explanation.document.sentences]
    ranking = {rank.sentence: rank.weight for rank in explanation.ranking}
    assert [ranking[number] for number in range(2)] == pytest.approx([part / sum(sums) for part in sums[:2]], **CLOSE)
    assert abs(ranking[1] - {rank.sentence: rank.weight for rank in plain.ranking}[1]) > 0.05
    assert explanation.stages == plain.stages and explanation.summary.sources == plain.summary.sources


def test_other_documents_in_the_batch_do_not_change_the_ranking(summarizers):
    """Check places of weight 0, also in the padding: they fill up tokens that were copied from few places."""
    hub, documents, lengths = summarizers(pointer=True), [article(9), "a b"], {"min_len": 5, "max_len_b": 8}
    for document, found in zip(documents, hub.explain(documents, **lengths)):
        (alone,) = hub.explain(document, **lengths)
        expected = {rank.sentence: rank.weight for rank in alone.ranking}
        assert {rank.sentence: rank.weight for rank in found.ranking} == pytest.approx(expected, abs=1e-5)


def test_ensemble_averages_copies_and_counts_none_for_plain_models():
    found = copies([0.8, 1.0, 1.0, 0], {2: 1.0}, {3: 1.0}, {4: 1.0}, {5: 1.0})
    other = copies([0.4, 1.0, 1.0, 0], {4: 1.0}, {3: 1.0}, {4: 1.0}, {5: 1.0})
    summary = explained(found, other)
    assert summary.copied == pytest.approx((0.6, 1.0), **CLOSE)
    assert summary.places[0] == ((1, pytest.approx(0.4, **CLOSE)), (3, pytest.approx(0.2, **CLOSE)))
    beside = explained(found, None)
    assert beside.copied == pytest.approx((0.4, 0.5), **CLOSE)
    assert beside.places[0] == ((1, pytest.approx(0.4, **CLOSE)),)
    assert explained(None).copied == explained(None).places == ()


def test_weights_of_places_sum_to_at_most_the_copied_share():
    generator = torch.Generator().manual_seed(0)
    rows = [dict(enumerate(torch.rand(5, generator=generator).softmax(dim=0).tolist())) for _ in range(4)]
    summary = explained(copies([0.9, 0.3, 0.8, 0.1], *rows))
    for share, places in zip(summary.copied, summary.places):
        assert places and sum(weight for _, weight in places) <= share + 1e-5
        assert list(places) == sorted(places, key=lambda place: -place[1])


@pytest.fixture(scope="module")
def copier(summarizers):
    """Return a model that copies and continues, but never writes."""
    hub = summarizers(pointer=True, pointer_bias=40.0)
    assert hub.models[0].decoder.pointer.gate.bias.tolist() == [0.0, 40.0, 40.0]
    return hub


def test_model_that_only_copies_has_a_place_for_every_word(copier):
    (explanation,) = copier.explain(article(4), min_len=3, max_len_b=12, no_repeat_ngram_size=1)
    summary, words = explanation.summary, explanation.document.words
    assert summary.words and explanation.model.points and "can copy words" in explanation.model.note
    assert summary.copied == pytest.approx([1.0] * len(summary.words), abs=1e-5)
    whole = [number for number, word in enumerate(summary.words) if word in words]
    assert whole and all(len(places) > 0 for places in summary.places)
    for number in whole:
        assert words[summary.places[number][0][0]] == summary.words[number]
    assert Explanation.from_dict(json.loads(json.dumps(explanation.to_dict()))) == explanation


def test_model_that_only_writes_has_copied_shares_of_zero(summarizers):
    hub = summarizers(pointer=True, pointer_bias=-200.0)
    (explanation,) = hub.explain(article(4), min_len=3, max_len_b=12)
    assert explanation.model.points and explanation.summary.copied == (0.0,) * len(explanation.summary.words)


def test_explanations_of_plain_models_do_not_mention_copies(summarizers):
    (explanation,) = summarizers().explain(article(4), min_len=3, max_len_b=12)
    assert not explanation.model.points and "copy" not in explanation.model.note
    assert explanation.summary.copied == explanation.summary.places == ()
