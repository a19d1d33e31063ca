"""Tests of the tokens that a classifier's poolings keep, and of its evaluation mode."""

import pytest

from pyramidion_fairseq.apps.classify.loading import load_classifier
from pyramidion_fairseq.text import Document
from tests.helpers.classifiers import write_classifier
from tests.helpers.preprocessing import WORDS

LSG = {"attention": "lsg", "lsg_global_tokens": 2}


@pytest.mark.parametrize("options, first", [({"attention": "full"}, 1), (LSG, 0)], ids=["<s> is kept", "globals"])
def test_kept_tokens_of_short_and_long_documents_count_their_own_vectors(tmp_path, options, first):
    """Check that <s> is listed with slot -1 only where it is kept outside the poolings."""
    checkpoint, _ = write_classifier(tmp_path, pooling_schedule="1:12,2:4", **options)
    classifier = load_classifier(str(checkpoint), device="cpu")
    documents = [Document.from_text(text) for text in ("beta", " ".join(WORDS))]
    for prediction, tokens in zip(classifier.classify(documents, explain=True), (3, len(WORDS) + 2)):
        assert prediction.tokens == tokens
        assert [kept.vectors for kept in prediction.kept_tokens] == [min(tokens - first, k) for k in (12, 4)]
        for kept in prediction.kept_tokens:
            assert len(kept.slots) == len(kept.weights) == tokens
            assert int((kept.slots == -1).sum()) == first


def test_loaded_classifier_is_in_evaluation_mode(tmp_path):
    classifier = load_classifier(str(write_classifier(tmp_path, dropout=0.5)[0]), device="cpu")
    assert not any(module.training for module in classifier.model.modules())
