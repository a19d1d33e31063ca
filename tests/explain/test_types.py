"""The structure of explanations survives JSON."""

import json

import pytest

from pyramidion_fairseq.explain import (
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


def test_json_and_back():
    data = json.loads(json.dumps(EXPLANATION.to_dict()))
    assert data == EXPLANATION.to_dict()
    assert Explanation.from_dict(data) == EXPLANATION
    assert hash(Explanation.from_dict(data)) == hash(EXPLANATION)
    assert data["summary"]["sources"] == [[[0, 0.75], [1, 0.25]]]
    assert data["document"]["sections"] == [{"name": "Intro", "start": 0, "end": 3}]


def test_foreign_fields_are_refused():
    data = EXPLANATION.to_dict()
    with pytest.raises(TypeError):
        Explanation.from_dict({**data, "model": {**data["model"], "colour": "red"}})
