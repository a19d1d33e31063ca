"""Tests of errors with --sequence-parallel: one line on every rank, and no rank waits forever."""

import time
from types import SimpleNamespace

import pytest
import torch
from fairseq.tasks.translation import TranslationTask

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.summarizer import PyramidionHubInterface
from pyramidion_fairseq.parallel import sequence_group
from pyramidion_fairseq.tasks.sequence_parallel import SequenceParallelTask
from tests.helpers.ranks import refused_on_ranks


def share(model, size=2, timeout=30):
    model.encoder.spread_documents(sequence_group(size, timeout))
    return model


def test_sequence_group_in_one_process_is_refused_with_a_hint_to_torchrun():
    with pytest.raises(PyramidionError, match=r"needs 2 processes .* torchrun"):
        sequence_group(2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"attention": "full"}, "the attention of FullAttention is not local"),
        ({"attention": "lsh"}, "is not local"),
        ({"attention": "lsg", "scorer": "attention_sum"}, "attention_sum adds up the attention of all tokens"),
        ({"pooling_schedule": ""}, "needs a --pooling-schedule"),
        ({"pooler": "funnel"}, "FunnelPooler needs all tokens in one place"),
        ({"pooler": "merge_similar"}, "MergeSimilarPooler needs all tokens in one place"),
        ({"pooler": "sinkhorn_topk"}, "SinkhornTopkPooler needs all tokens in one place"),
    ],
    ids=str,
)
def test_models_that_cannot_spread_documents_are_refused(tiny_model, options, message):
    class Group:
        size = 2

    with pytest.raises(PyramidionError, match=message):
        tiny_model(**options).encoder.spread_documents(Group())


def test_lsg_refuses_sequence_parallel_together_with_encoder_chunks(tiny_model):
    class Group:
        size = 2

    together = "with LSGAttention, --sequence-parallel and --encoder-chunk-tokens do not go together"
    model = tiny_model(attention="lsg")
    model.encoder.read_in_chunks(8)
    with pytest.raises(PyramidionError, match=f"--sequence-parallel 2: {together}"):
        model.encoder.spread_documents(Group())
    model.encoder.read_in_chunks(0)
    model.encoder.spread_documents(Group())
    with pytest.raises(PyramidionError, match=f"--encoder-chunk-tokens 8: {together}"):
        model.encoder.read_in_chunks(8)


def through_summarizer(model):
    PyramidionHubInterface.spread_documents(SimpleNamespace(models=[model]), 2)


def through_task(model):
    task = SequenceParallelTask.__new__(SequenceParallelTask)
    task.cfg = SimpleNamespace(sequence_parallel=2, sequence_parallel_timeout=30)
    task.build_model(model)


@pytest.mark.parametrize("refused", [through_summarizer, through_task])
def test_models_are_refused_before_the_ranks_connect(tiny_model, monkeypatch, refused):
    """Check the order: a rank that ends early breaks the connection of others before they print the reason."""
    monkeypatch.setattr(TranslationTask, "build_model", lambda task, model, from_checkpoint: model)
    for module in ("inference.summarizer", "tasks.sequence_parallel"):
        monkeypatch.setattr(f"pyramidion_fairseq.{module}.sequence_group", lambda *size: pytest.fail("ranks connect"))
    with pytest.raises(PyramidionError, match="the attention of FullAttention is not local"):
        refused(tiny_model(attention="full"))


def test_group_size_that_does_not_divide_the_processes_is_refused(tmp_path):
    for line in refused_on_ranks(lambda rank: sequence_group(2), 3, tmp_path):
        assert line == (
            "error: --sequence-parallel 2 must be at least 2 and divide the number of processes, 3 "
            "(--distributed-world-size)\n"
        )


@pytest.mark.parametrize("differ", ["batches", "lengths", "settings", "versions of the package"])
def test_ranks_with_different_batches_or_settings_stop(tiny_model, random_tokens, tmp_path, monkeypatch, differ):
    def main(rank):
        if differ == "versions of the package":
            monkeypatch.setattr("pyramidion_fairseq.parallel.group.__version__", f"{rank}")
        model = share(tiny_model(softmax_base=20.0 + rank if differ == "settings" else 20.0))
        lengths = [40, 20 + rank] if differ == "lengths" else [40, 20]
        model.encoder(random_tokens(lengths, seed=rank if differ == "batches" else 0))

    what = "batches" if differ == "lengths" else differ
    for rank, line in enumerate(refused_on_ranks(main, 2, tmp_path)):
        expected = f"error: --sequence-parallel 2: rank {rank} stops: ranks 0 and 1 share documents and have different"
        assert line.startswith(f"{expected} {what}; ") and line.count("\n") == 1


def test_waiting_for_a_late_rank_times_out_on_every_rank(tiny_model, random_tokens, tmp_path):
    """Check that every rank says what it waited for, also the one that comes too late."""

    def main(rank):
        model = share(tiny_model(), timeout=2)
        if rank == 1:
            time.sleep(4)
        model.encoder(random_tokens([40]))

    for rank, line in enumerate(refused_on_ranks(main, 2, tmp_path)):
        waited = f"error: --sequence-parallel 2: rank {rank} waited"
        assert line.startswith(waited) and f"for the comparison of batches of rank {1 - rank}" in line
        assert line.count("\n") == 1


def test_rank_that_ends_before_the_backward_pass_stops_the_other_one(tiny_model, random_tokens, tmp_path):
    def main(rank):
        torch.manual_seed(0)
        loss = share(tiny_model().train(), timeout=5).encoder(random_tokens([40]))["encoder_out"][0].sum()
        if rank == 1:
            raise PyramidionError("the disk is full")
        loss.backward()

    first, second = refused_on_ranks(main, 2, tmp_path)
    assert second == "error: the disk is full\n"
    assert first.startswith("error: --sequence-parallel 2: rank 0 ") and "gradients of vectors of pooling 2" in first
    assert first.count("\n") == 1
