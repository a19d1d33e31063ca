"""Tests of what the summarizer passes to the task: minimum lengths, and the symbols around documents."""

import pytest
import torch

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import check_pieces
from pyramidion_fairseq.inference.summarizer import PyramidionHubInterface, Summary
from pyramidion_fairseq.markers import Markers
from pyramidion_fairseq.text.pieces import WORD_START
from tests.helpers.hub import summarizers  # noqa: F401 -- a fixture


def test_default_minimum_length_is_lowered_only_for_documents_with_fewer_tokens(summarizers, monkeypatch):  # noqa: F811
    """Check documents around 23 tokens, the longest summary of the model; lengths count ``</s>``."""
    hub, seen = summarizers(), []

    def record(_, sources, generator, __):
        seen.append((generator.min_len, [source.length for source in sources]))
        return [Summary("", 0.0, ())] * len(sources)

    monkeypatch.setattr(PyramidionHubInterface, "_generate", record)
    word = next(piece[1:] for piece in hub.src_dict.symbols if piece[0] == WORD_START and len(piece) > 1)
    hub.summarize([" ".join([word] * words) for words in (22, 30, 5, 23)])
    assert seen == [(23, [31, 24]), (22, [23]), (5, [6])]


@pytest.mark.parametrize(
    "markers", [Markers(), Markers(document_end=7), Markers(document=0), Markers(8, 9, 7)], ids=str
)
def test_documents_are_encoded_as_by_the_task(summarizers, monkeypatch, markers):  # noqa: F811
    hub, seen = summarizers(), []
    step = hub.task.inference_step
    monkeypatch.setattr(hub.task, "markers", markers)
    monkeypatch.setattr(hub.task, "inference_step", lambda *args: seen.append(args[2]) or step(*args))
    hub.summarize("the best vectors", min_len=1, max_len_b=2)
    (tokens,) = seen[0]["net_input"]["src_tokens"]
    raw = hub.encode("the best vectors")
    assert raw[-1] == 2 and torch.equal(tokens, hub.task.build_dataset_for_inference([raw], [len(raw)])[0]["source"])


@pytest.mark.parametrize("known, refused, warned", [(49, True, False), (50, False, True), (90, False, False)])
def test_sentencepiece_model_with_less_than_half_of_its_pieces_in_the_dictionary_is_refused(
    known, refused, warned, caplog
):
    class Pieces:
        def count_known_pieces(self):
            return known, 100

    if refused:
        with pytest.raises(PyramidionError, match=r"^x\.model is another model's: the dictionary has 49 of its 100"):
            check_pieces(Pieces(), "x.model")
    else:
        check_pieces(Pieces(), "x.model")
    assert ("may be another model's: the dictionary lacks 50 of its 100" in caplog.text) == warned
