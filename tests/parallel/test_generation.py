"""Summaries of documents that processes share are those of one process."""

from argparse import Namespace

import pytest

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import load_summarizer
from pyramidion_fairseq.pretrained import find
from pyramidion_fairseq.tasks.sequence_parallel import SequenceParallelTask
from tests.helpers.ranks import on_ranks

DOCUMENTS = ["the effect of treatment on patients with chronic disease was studied. " * 60, "a short one."]
OPTIONS = {"beam": 2, "max_len_b": 20, "min_len": 1}


def test_every_rank_writes_the_summaries_of_one_process(tmp_path):
    def summaries(rank=None):
        hub = load_summarizer(find("pubmed-small"), device="cpu")
        if rank is not None:
            hub.spread_documents(2)
        return [(summary.text, summary.tokens) for summary in hub.summarize(DOCUMENTS, **OPTIONS)]

    expected = summaries()
    assert len(expected[0][1]) > 5
    assert on_ranks(summaries, 2, tmp_path) == [expected, expected]


def test_reading_in_chunks_writes_the_same_summaries():
    hub = load_summarizer(find("pubmed-small"), device="cpu")
    expected = [summary.tokens for summary in hub.summarize(DOCUMENTS, **OPTIONS)]
    hub.task.cfg.encoder_chunk_tokens = 128
    calls = []
    layer = hub.models[0].encoder.layers[0]
    layer.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0].size(1)))
    assert [summary.tokens for summary in hub.summarize(DOCUMENTS, **OPTIONS)] == expected
    assert max(calls) <= 128 < sum(calls)


def test_a_command_that_only_generates_is_told_where_to_look(tiny_model):
    task = SequenceParallelTask.__new__(SequenceParallelTask)
    task.cfg = Namespace(sequence_parallel=2)
    with pytest.raises(PyramidionError, match="is for training: to summarise, call spread_documents"):
        task.build_generator([tiny_model()], None)
