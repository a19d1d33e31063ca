"""Tests of the numbers that a page shows, compared with plain loops over a hand-made record."""

import dataclasses
import json

import pytest
import torch

from pyramidion_fairseq.apps.explain import DocumentWords, Explanation, Length
from pyramidion_fairseq.apps.explain.explanation import SHARE, explain_summary
from pyramidion_fairseq.apps.explain.record import ModelRecord
from pyramidion_fairseq.functional import TokenRecord
from pyramidion_fairseq.text import TokenizedText
from tests.helpers.provenances import FACTS, RECORD, WITH_LANGUAGE, provenance, record
from tests.helpers.summaries import article
from tests.helpers.tensors import LargestTensor


def test_explanation_matches_hand_computed_values():
    explanation = explain_summary(provenance(RECORD), -1.5)
    assert [stage.kind for stage in explanation.stages] == ["pooling", "pooling", "decoder", "used"]
    first, second, decoder, used = (stage.weights for stage in explanation.stages)
    assert first == (0.5, 0.5, 1.0, 0.375, 0.0)  # word 0: the mean of its two tokens
    assert second == decoder == (0.375, 0.5, 0.25, 0.375, 0.0)
    # The three summary tokens read 1.5 of slot 0 and 1.5 of slot 1; </s>'s row does not count.
    expected = [1.5 * 0.75, 1.5 * 0.5, 1.5 * 0.25, 1.5 * 0.375, 0.0]
    assert used == pytest.approx([value / 1.125 for value in expected], rel=1e-5)
    # Word y has two tokens, which read (0.25, 0.75) on average.
    assert explanation.summary.sources[0] == ((0, 0.75), (2, 0.25))
    assert explanation.summary.sources[1] == ((1, 0.375), (3, 0.28125), (0, 0.1875), (2, 0.0625))
    ranked = [(rank.sentence, rank.weight) for rank in explanation.ranking]
    assert [number for number, _ in ranked] == [0, 1]
    assert ranked[0][1] == pytest.approx((0.75 + 0.5 + 0.25) / 1.875) and sum(w for _, w in ranked) == pytest.approx(1)
    assert explanation.truncated == 1 and explanation.lengths == RECORD.lengths
    assert explanation.summary.score == -1.5 and explanation.title == "t" and explanation.model == FACTS
    assert Explanation.from_dict(json.loads(json.dumps(explanation.to_dict()))) == explanation


def test_language_token_after_eos_changes_only_the_length():
    without, found = (explain_summary(provenance(model), -1.5) for model in (RECORD, WITH_LANGUAGE))
    assert found.lengths[0] == Length("document", 7)
    assert dataclasses.replace(found, lengths=without.lengths) == without


def test_ensemble_averages_stages_and_sources():
    other = record([1, 1, 0, 0, 1, 1], [0.5, 0.25, 0.5, 0.5, 0.125, 0.125], [[0.0, 1.0]] * 4)
    both = explain_summary(provenance(RECORD, other), None)
    single = [explain_summary(provenance(model), None) for model in (RECORD, other)]
    for number in range(3):
        mean = [(a + b) / 2 for a, b in zip(*(one.stages[number].weights for one in single))]
        assert both.stages[number].weights == pytest.approx(mean, rel=1e-5)
    # x: (0, 0.75), (2, 0.25) of the first; (0, 0.75), (3, 0.125), 0.125 of </s> of the second.
    assert both.summary.sources[0] == ((0, 0.75), (2, 0.125), (3, 0.0625))


def test_ensemble_of_other_schedules_has_only_decoder_stages():
    other = dataclasses.replace(
        RECORD, stages=RECORD.stages[1:], lengths=(RECORD.lengths[0], Length("after layer 2", 2))
    )
    explanation = explain_summary(provenance(RECORD, other), None)
    assert [stage.name for stage in explanation.stages] == ["seen by the decoder", "used by the summary"]
    assert explanation.lengths == (Length("document", 6),)


def test_sources_are_truncated_and_sum_to_at_most_one():
    words = tuple(f"w{i}" for i in range(200))
    spaces = (True,) * 200
    source = TokenizedText(words, spaces, (4,) * 200, tuple(range(200)))
    slots = torch.zeros(201, dtype=torch.long)
    for weights, expected in [
        (torch.full((201,), 1 / 201), 50),
        (torch.softmax(torch.arange(201.0).flip(0), 0), 3),
        (torch.full((201,), 0.5), 50),  # as in an inexact record
    ]:
        last = TokenRecord(slots, weights)
        model = ModelRecord((Length("document", 201),), (), last, torch.ones(4, 1))
        document = DocumentWords(words, spaces)
        explanation = explain_summary(provenance(model, document=document, source=source), None)
        for sources in explanation.summary.sources:
            assert len(sources) == expected
            total = sum(weight for _, weight in sources)
            assert total <= 1 + 1e-6 and (expected == 50 or total >= SHARE * 0.999)
            assert list(sources) == sorted(sources, key=lambda source: -source[1])
        assert explanation.ranking == ()


def test_note_counts_the_words_that_are_not_listed():
    assert explain_summary(provenance(RECORD, left_out=1234), None).model.note.startswith(
        "The last 1,234 words of the document are not listed"
    )


def test_sources_match_plain_loops_over_a_real_model(summarizers):
    (summary,) = summarizers().summarize(article(4), with_provenance=True, no_repeat_ngram_size=1, min_len=5)
    explanation, found = summary.explain(), summary.provenance
    (model,) = found.models
    weights = model.source_weights().double()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(weights), dtype=torch.float64), rtol=0, atol=1e-5)
    owners = [*found.source.token_words, None]
    for number, sources in enumerate(explanation.summary.sources):
        rows = [weights[step] for step, word in enumerate(found.summary.token_words) if word == number]
        expected = {}
        for row in rows:
            for value, owner in zip(row.tolist(), owners):
                if owner is not None:
                    expected[owner] = expected.get(owner, 0) + value / len(rows)
        assert len(sources) > 0
        for word, weight in sources:
            assert weight == pytest.approx(expected[word], abs=1e-5)
        assert {word for word, _ in sources[:1]} <= {
            word for word, w in expected.items() if w > max(expected.values()) - 1e-5
        }
    for stage in explanation.stages:
        assert len(stage.weights) == len(explanation.document.words)
        assert min(stage.weights) >= 0 and max(stage.weights) <= 1 + 1e-6


@pytest.mark.parametrize("pointer", [False, True])
def test_explaining_needs_less_memory_than_a_dense_matrix_of_weights(summarizers, pointer):
    """Check that generation and explanation stay below one k x n matrix, the size of a layer's dense record."""
    length, k = 2048, 256
    hub = summarizers(max_source_positions=length, pooling_schedule=f"1:512,2:{k}", pointer=pointer)
    with LargestTensor() as largest:
        (summary,) = hub.summarize(article(400), with_provenance=True)
        summary.explain()
    assert summary.provenance.models[0].decoder.slots.numel() == length
    assert largest.numel < k * length / 4


@pytest.mark.parametrize("options", [{"pooler": "funnel"}, {"attention": "lsg"}, {"pooling_schedule": ""}])
def test_inexact_models_can_be_explained(summarizers, options):
    explanation = summarizers(**options).explain(article(9))[0]
    assert not explanation.model.exact and explanation.model.note
    assert explanation.truncated > 0 and explanation.stages[-1].weights[-1] == 0
    assert sum(rank.weight for rank in explanation.ranking) == pytest.approx(1, abs=1e-4)
