"""Tests of summarising documents that are spread over processes."""

from argparse import Namespace

import pytest

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import load_summarizer
from pyramidion_fairseq.pretrained import find
from pyramidion_fairseq.tasks.sequence_parallel import SequenceParallelTask
from tests.helpers.ranks import on_ranks

DOCUMENTS = ["the effect of treatment on patients with chronic disease was studied. " * 60, "a short one."]
OPTIONS = {"beam": 2, "max_len_b": 20, "min_len": 1}


@pytest.fixture(scope="module")
def hub():
    return load_summarizer(find("pubmed-small"), device="cpu")


@pytest.fixture(scope="module")
def expected(hub):
    found = summaries(hub)
    assert len(found[0][1]) > 5
    return found


def summaries(hub):
    return [(summary.text, summary.tokens) for summary in hub.summarize(DOCUMENTS, **OPTIONS)]


def test_every_rank_returns_the_summaries_of_one_process(hub, expected, tmp_path):
    def main(rank):
        hub.spread_documents(2)
        return summaries(hub)

    assert on_ranks(main, 2, tmp_path) == [expected, expected]


def test_encoder_chunk_tokens_gives_the_same_summaries(hub, expected, monkeypatch):
    encoder, calls = hub.models[0].encoder, []
    monkeypatch.setattr(hub.task.cfg, "encoder_chunk_tokens", 128)
    handle = encoder.layers[0].register_forward_hook(lambda module, given, out: calls.append(given[0].size(1)))
    try:
        assert summaries(hub) == expected
    finally:
        handle.remove()
        encoder.read_in_chunks(0)
    assert max(calls) <= 128 < sum(calls)


def test_generation_command_with_sequence_parallel_is_refused_with_a_hint(tiny_model):
    task = SequenceParallelTask.__new__(SequenceParallelTask)
    task.cfg = Namespace(sequence_parallel=2)
    with pytest.raises(PyramidionError, match="is for training: to summarise, call spread_documents"):
        task.build_generator([tiny_model()], None)
