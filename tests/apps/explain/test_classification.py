"""Tests of the explanation of a classifier's prediction."""

import pytest

from pyramidion_fairseq.apps.classify.loading import load_classifier
from pyramidion_fairseq.apps.explain.classification import explain_prediction
from pyramidion_fairseq.text import Document
from tests.helpers.classifiers import write_classifier
from tests.helpers.preprocessing import WORDS


def test_sentences_of_a_classified_document_are_ranked_by_their_share_of_the_kept_weight(tmp_path):
    checkpoint, _ = write_classifier(tmp_path, pooling_schedule="1:12,2:4", attention="full")
    classifier = load_classifier(str(checkpoint), device="cpu")
    document = Document(tuple(" ".join(WORDS[start : start + 4]) for start in range(0, 12, 4)), split=False)
    (prediction,) = classifier.classify([document], explain=True)
    explanation = explain_prediction(prediction, None, classifier.model)
    kept = explanation.stages[-1].weights
    sums = [sum(kept[start:end]) for start, end in explanation.document.sentences]
    order = sorted((number for number in range(3) if sums[number]), key=lambda number: -sums[number])
    assert len(sums) == 3 and [rank.sentence for rank in explanation.ranking] == order
    assert [rank.weight for rank in explanation.ranking] == pytest.approx([sums[n] / sum(sums) for n in order])
    assert kept != explanation.stages[0].weights  # of the last pooling
