"""Tests that the number of operations on a GPU does not depend on the number of documents or their lengths."""

import random

import pytest
import torch

from pyramidion_fairseq.attention import ATTENTIONS
from pyramidion_fairseq.complexity import build_on_meta
from pyramidion_fairseq.generation import new_decoding_state
from pyramidion_fairseq.poolers import POOLERS
from tests.helpers import counting
from tests.helpers.models import distinct

#: Lengths of the paper's model divided by 40; only loops over slots have fewer operations.
SHORT = {
    "max_source_positions": 205,
    "pooling_schedule": "2:51,3:13",
    "block_size": 13,
    "sinkhorn_iterations": 5,
    "perturbed_samples": 5,
}
VARIANTS = distinct(
    [{"attention": name} for name in ATTENTIONS.names()]
    + [{"pooler": name} for name in POOLERS.names()]
    + [{"attention": "lsg", "lsg_sparsity_type": "lsh"}, {"scorer": "attention_sum"}]
    + [{"pooling_schedule": ""}, {"pointer": True}]
)


def unequal(count: int, shortest: int, longest: int) -> list[int]:
    """Return lengths that all differ, including the longest."""
    return [longest, *random.Random(0).sample(range(shortest, longest), count - 1)]


def test_operations_counts_kernels_without_views():
    x = torch.zeros(4, 4, device="meta")
    with counting.Operations() as operations:
        x.view(16).unsqueeze(0).add(1).t()
    assert operations.kernels == {"add": 1} and sum(operations.dispatched.values()) == 4


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_unequal_document_lengths_need_no_more_operations(monkeypatch, options):
    """Check that 64 unequal documents need at most 1.05 times the operations of 64 equal ones."""
    counts = []
    model = build_on_meta("deeppyramidion", vocabulary=100, **{**SHORT, **options}).to("meta")
    for lengths in (unequal(64, 100, 200), [200] * 64):  # what is cached counts for the unequal ones
        model.zero_grad()
        counts.append(sum(counting.of_training(monkeypatch, model, lengths, 20).dispatched.values()))
    assert counts[0] <= 1.05 * counts[1], counts


@pytest.mark.parametrize("lengths", [[8192] * 64, unequal(64, 6000, 8192)], ids=["equal", "unequal"])
def test_training_step_starts_at_most_1200_kernels(monkeypatch, lengths):
    """Count forward and backward of DeepPyramidion, with one kernel for dropout and one for attention."""
    counting.fuse_as_a_gpu(monkeypatch)
    model = build_on_meta("deeppyramidion", vocabulary=100)
    assert sum(counting.of_training(monkeypatch, model, lengths, 256).kernels.values()) <= 1200


def test_generation_step_starts_at_most_115_kernels(monkeypatch):
    """Count a step for 8 documents of 512 vectors with padding, beam 2."""
    counting.fuse_as_a_gpu(monkeypatch)
    decoder = build_on_meta("deeppyramidion", vocabulary=100).eval().decoder
    states = torch.zeros(512, 8, 768, device="meta")
    caches = {}
    with torch.no_grad():
        state = new_decoding_state(decoder, states, None, 16)
        state.document_mask = states.new_zeros(8, 1, 1, 512)
        decoder.set_incremental_state(caches, "decoding", state)
        document = {"encoder_out": [states], "encoder_padding_mask": [], "pooling_slots": [states]}
        tokens = torch.zeros(16, 2, dtype=torch.long, device="meta")
        decoder(tokens[:, :1], document, caches)  # grows the caches
        with counting.Operations() as operations:
            decoder(tokens, document, caches)
    assert sum(operations.kernels.values()) <= 115
    assert operations.kernels["_scaled_dot_product_efficient_attention"] == 2 * 6


def test_number_of_kernels_does_not_depend_on_the_number_of_documents(monkeypatch):
    counts = []
    for documents in (16, 64):
        model = build_on_meta("deeppyramidion", vocabulary=100)
        operations = counting.of_training(monkeypatch, model, unequal(documents, 6000, 8192), 256)
        counts.append(sum(operations.kernels.values()))
    assert counts[0] == counts[1]
