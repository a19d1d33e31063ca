"""Documents on 2 and 4 ranks are what they are on one: losses, gradients, slots and weights, to 1e-12."""

import pytest
import torch

from pyramidion_fairseq.parallel import sequence_group
from tests.helpers.ranks import on_ranks

EXACT = dict(rtol=0, atol=1e-12)
CASES = {
    "halving": ({}, [40, 23, 9]),
    "one block": ({}, [4, 2]),
    "one token": ({}, [1]),
    "uneven, equal lengths": ({}, [37, 37]),
    "short": ({}, [11, 7, 5]),
    "hard": ({"pooler": "hard_topk"}, [40, 13]),
    "nugget": ({"pooler": "nugget_topk", "scorer_activation": "none"}, [40, 13]),
    "threshold": ({"pooler": "threshold_topk"}, [40, 13]),
    "windows": ({"pooler": "mean_window"}, [40, 13]),
    "no order": ({"score_order": True, "softmax_base": 0.0, "encoder_normalize_before": True}, [33, 50]),
    "pointer": ({"pointer": True}, [40, 13]),
    "learned positions": ({"encoder_learned_pos": True, "layernorm_embedding": True}, [40, 13]),
    "index": ({"scorer": "index"}, [40, 13]),
    "attention": ({"scorer": "attention_sum"}, [40, 13]),
    "nonlinear": ({"scorer": "nonlinear", "encoder_layers": 2}, [40, 13]),
    "recomputed": ({"checkpoint_activations": True}, [40, 13]),
}
LSG = {
    "norm": ({}, [40, 23, 9]),
    "one token": ({}, [1]),
    "few blocks": ({}, [9, 5]),
    "far": ({"lsg_sparse_block_size": 12, "lsg_sparsity_type": "pooling"}, [61, 40]),
    "first query": ({"lsg_sparsity_type": "bos_pooling", "lsg_global_tokens": 3}, [61, 40]),
    "hashes": ({"lsg_sparsity_type": "lsh"}, [40, 23]),
    "strides": ({"lsg_sparsity_type": "block_stride", "lsg_no_global_to_decoder": True}, [40, 23]),
    "window": ({"lsg_sparsity_type": "none", "checkpoint_activations": True}, [37, 37]),
    "hidden first token": ({"lsg_mask_first_token": True, "pointer": True}, [40, 3]),
}
SUMMARY = torch.tensor([[2, 5, 6, 7]])
TARGET = torch.tensor([[5, 6, 7, 2]])


def step(model, tokens, training=True):
    """Loss, gradients and record of a step without dropout."""
    model.train(training)
    count = len(tokens)
    out = model.encoder(tokens)
    decoded = model.decoder(SUMMARY.expand(count, -1), encoder_out=out)
    probabilities = model.get_normalized_probs(decoded, log_probs=True)
    loss = -probabilities.gather(2, TARGET.expand(count, -1).unsqueeze(2)).sum()
    loss.backward()
    return {
        "loss": loss.detach(),
        "vectors": out["encoder_out"][0].detach().masked_fill(out["encoder_padding_mask"][0].T.unsqueeze(2), 0),
        "mask": out["encoder_padding_mask"][0],
        "slots": out["pooling_slots"],
        "weights": out["pooling_weights"],
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
    }


@pytest.mark.parametrize("attention, cases", [("blockwise", CASES), ("lsg", LSG)])
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_equal_one_process(tiny_model, exact_softmax, random_tokens, tmp_path, size, attention, cases):
    """The mean of the ranks' gradients is the gradient, whatever the lengths, the padding and the blocks."""

    def main(rank):
        group = sequence_group(size, timeout=30)
        found = {}
        for name, (options, lengths) in cases.items():
            model = tiny_model(attention=attention, **options)
            model.encoder.spread_documents(group)
            found[name] = step(model, random_tokens(lengths), training=name != "hashes")
        return found

    ranks = on_ranks(main, size, tmp_path)
    for name, (options, lengths) in cases.items():
        expected = step(tiny_model(attention=attention, **options), random_tokens(lengths), training=name != "hashes")
        check(name, [found[name] for found in ranks], expected)


@pytest.mark.parametrize("scorer", ["linear", "random"])
def test_the_seed_decides_what_is_dropped(tiny_model, random_tokens, tmp_path, scorer):
    """The same step twice is the same, another seed another; the ranks agree on slots, random ones too."""

    def main(rank):
        group = sequence_group(2, timeout=30)
        found = []
        for seed in (1, 1, 2):
            model = tiny_model(dropout=0.2, attention_dropout=0.2, activation_dropout=0.2, scorer=scorer)
            model.encoder.spread_documents(group)
            torch.manual_seed(seed)
            found.append(step(model, random_tokens([40, 23])))
        return found

    for found, other in zip(*on_ranks(main, 2, tmp_path)):
        close(found["slots"], other["slots"], "slots")
        close(found["weights"], other["weights"], "weights")
    first, again, another = on_ranks(main, 2, tmp_path)[1]
    close(first, again, "the same seed")
    assert not torch.equal(first["loss"], another["loss"])


def check(name, ranks, expected):
    for found in ranks:
        for key in ("loss", "vectors", "mask", "slots", "weights"):
            close(found[key], expected[key], f"{name} {key}")
    for parameter, gradient in expected["gradients"].items():
        close(sum(found["gradients"][parameter] for found in ranks) / len(ranks), gradient, f"{name} {parameter}")


def close(found, expected, what):
    torch.testing.assert_close(found, expected, **EXACT, msg=lambda text: f"{what}: {text}")
