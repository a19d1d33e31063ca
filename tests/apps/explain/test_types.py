"""Tests of the conversion of explanations to JSON and back."""

import dataclasses
import json

import pytest

from pyramidion_fairseq.apps.explain import (
    DocumentWords,
    Explanation,
    Length,
    ModelFacts,
    RankedSentence,
    Section,
    Stage,
    SummaryWords,
)

EXPLANATION = Explanation(
    title=None,
    document=DocumentWords(("A", "word", "."), (True, False, False), ((0, 3),), (Section("Intro", 0, 3),)),
    lengths=(Length("document", 4), Length("after layer 2", 2)),
    stages=(Stage("after layer 2", "pooling", (1.0, 0.5, 0.0)), Stage("used by the summary", "used", (1.0, 0.0, 0.0))),
    summary=SummaryWords(("Word",), (False,), -1.5, (((0, 0.75), (1, 0.25)),)),
    ranking=(RankedSentence(0, 1.0),),
    model=ModelFacts("tiny", "successive_halving", "linear", True, ""),
    truncated=2,
)


def test_explanation_survives_json():
    data = json.loads(json.dumps(EXPLANATION.to_dict()))
    assert data == EXPLANATION.to_dict()
    assert Explanation.from_dict(data) == EXPLANATION
    assert hash(Explanation.from_dict(data)) == hash(EXPLANATION)
    assert data["summary"]["sources"] == [[[0, 0.75], [1, 0.25]]]
    assert data["document"]["sections"] == [{"name": "Intro", "start": 0, "end": 3}]


def test_copied_words_survive_json_and_are_optional():
    summary = dataclasses.replace(EXPLANATION.summary, copied=(0.75,), places=(((1, 0.5), (0, 0.25)),))
    model = dataclasses.replace(EXPLANATION.model, points=True)
    copied = dataclasses.replace(EXPLANATION, summary=summary, model=model)
    data = json.loads(json.dumps(copied.to_dict()))
    assert data["summary"]["copied"] == [0.75] and data["summary"]["places"] == [[[1, 0.5], [0, 0.25]]]
    assert Explanation.from_dict(data) == copied
    for part, name in (("summary", "copied"), ("summary", "places"), ("model", "points")):
        del data[part][name]
    assert Explanation.from_dict(data) == EXPLANATION  # as written before models could copy


def test_unknown_fields_are_refused():
    data = EXPLANATION.to_dict()
    with pytest.raises(TypeError):
        Explanation.from_dict({**data, "model": {**data["model"], "colour": "red"}})


@pytest.mark.parametrize("sources", [5, [[5]], [[[1]]], [[["one", 0.5]]], [[[None, 0.5]]]])
def test_sources_that_are_not_pairs_are_refused(sources):
    data = EXPLANATION.to_dict()
    with pytest.raises((TypeError, ValueError)):
        Explanation.from_dict({**data, "summary": {**data["summary"], "sources": sources}})


def test_unsupported_words_survive_json_and_are_optional():
    unsupported = dataclasses.replace(
        EXPLANATION, summary=dataclasses.replace(EXPLANATION.summary, unsupported=("number",))
    )
    data = json.loads(json.dumps(unsupported.to_dict()))
    assert data["summary"]["unsupported"] == ["number"] and Explanation.from_dict(data) == unsupported
    del data["summary"]["unsupported"]
    assert Explanation.from_dict(data) == EXPLANATION


def test_reference_survives_json_and_is_optional():
    compared = dataclasses.replace(EXPLANATION, reference="A reference.")
    data = json.loads(json.dumps(compared.to_dict()))
    assert data["reference"] == "A reference." and Explanation.from_dict(data) == compared
    del data["reference"]
    assert Explanation.from_dict(data) == EXPLANATION
