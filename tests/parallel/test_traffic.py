"""Tests of the formulas for what ranks send, against the bytes counted in the collectives."""

import pytest

from pyramidion_fairseq.parallel import Parts, bytes_of_pooling, bytes_of_ring_attention, sequence_group
from tests.helpers.ranks import on_ranks


@pytest.mark.parametrize("length, size", [(1, 4), (37, 4), (40, 3), (64, 2)])
def test_parts_are_whole_blocks_and_cover_the_document(length, size):
    parts = Parts(length, 4, size)
    assert [parts.start(rank) % 4 for rank in range(size) if parts.width(rank)] == [0] * sum(map(bool, parts.widths))
    assert sum(parts.widths) == length and parts.start(0) == 0 and parts.widths[0] > 0
    blocks = [-(-width // 4) for width in parts.widths]
    assert max(blocks) - min(blocks) <= 1


def test_bytes_of_pooling_equals_the_counted_bytes(tiny_model, random_tokens, tmp_path):
    """Check each rank forward, and the sum of all ranks backward. Block-wise layers send nothing."""
    size, batch, lengths = 4, 2, [50, 37]

    def main(rank):
        group = sequence_group(size)
        model = tiny_model().train()
        model.encoder.spread_documents(group)
        out = model.encoder(random_tokens(lengths))["encoder_out"][0]
        group.sent.pop("the comparison of batches")
        forward = dict(group.sent)
        group.sent.clear()
        out.square().sum().backward()
        return forward, dict(group.sent)

    found = on_ranks(main, size, tmp_path)
    total = {1: 0, 2: 0}
    for number, before, k in ((1, 50, 12), (2, 12, 5)):
        parts = Parts(before, 4, size)
        for rank, (forward, _) in enumerate(found):
            sent = sum(count for what, count in forward.items() if what.endswith(f"pooling {number}"))
            formula = bytes_of_pooling(parts, k, 8, rank, last=number == 2, batch=batch, item=8, score=8)
            assert sent == formula > 0, (number, rank)
            total[number] += formula
    for forward, _ in found:
        assert all("pooling" in what for what in forward)
    for number, expected in total.items():
        backward = [count for _, sent in found for what, count in sent.items() if what.endswith(f"pooling {number}")]
        assert sum(backward) == expected
    assert all(what.startswith("gradients of") for _, sent in found for what in sent)


def test_lsg_layers_send_the_neighbouring_blocks(tiny_model, random_tokens, tmp_path):
    """Check LSG: a layer sends one block, and those of the sparse tokens behind it, to each side."""

    def main(rank):
        group = sequence_group(2)
        model = tiny_model(attention="lsg", lsg_sparsity_type="none", pooling_schedule="2:5")
        model.encoder.spread_documents(group)
        model.encoder(random_tokens([64]))
        return group.sent["the neighbouring blocks"]

    assert on_ranks(main, 2, tmp_path) == [2 * 4 * (8 + 1) * 8] * 2  # layers, tokens, width and mask, bytes


def test_ring_attention_sends_100_to_300_times_the_bytes_of_a_pooling():
    assert bytes_of_ring_attention(2**20, 768, 8) == 2 * 2**20 * 768 * 4 * 7 / 8
    pooling = bytes_of_pooling(Parts(2**20, 512, 8), 4096, 768, 3, last=True)
    assert 100 < bytes_of_ring_attention(2**20, 768, 8) / pooling < 300
