"""Tests of documents spread over 2 and 4 ranks: losses, gradients, slots and weights equal those of one process."""

from functools import partial

import pytest
import torch

from pyramidion_fairseq.parallel import sequence_group
from tests.helpers.ranks import on_ranks

EXACT = dict(rtol=0, atol=1e-12)
#: Options and lengths. Some cases have several options that do not depend on each other.
CASES = {
    "halving": ({}, [40, 23, 9]),
    "one block": ({}, [4, 2]),
    "one token": ({}, [1]),
    "short, recomputed": ({"checkpoint_activations": True}, [11, 7, 5]),
    "hard": ({"pooler": "hard_topk", "encoder_learned_pos": True, "layernorm_embedding": True}, [40, 13]),
    "nugget, uneven, equal lengths": ({"pooler": "nugget_topk", "scorer_activation": "none"}, [37, 37]),
    "threshold": ({"pooler": "threshold_topk", "scorer": "nonlinear", "encoder_layers": 2}, [40, 13]),
    "windows": ({"pooler": "mean_window", "encoder_normalize_before": True}, [40, 13]),
    "no order": ({"score_order": True, "softmax_base": 0.0}, [33, 50]),
    "positions of PEGASUS": ({"pegasus_positions": True}, [33, 50]),
    "attention": ({"scorer": "attention_sum", "pointer": True}, [40, 13]),
    "index": ({"scorer": "index"}, [40, 13]),
    "chunks": ({"chunk": 4, "pooler": "nugget_topk", "scorer_activation": "none"}, [50, 37, 6]),
    "chunks of attention": ({"chunk": 8, "scorer": "attention_sum", "pooling_schedule": "2:7"}, [50, 13]),
    "chunks of positions": ({"chunk": 4, "scorer": "index", "pointer": True}, [21, 37]),
    "chunks without scores": ({"chunk": 4, "pooler": "mean_window"}, [5, 37]),
}
LSG = {
    "norm": ({}, [40, 23, 9]),
    "one token": ({}, [1]),
    "far": ({"lsg_sparse_block_size": 12, "lsg_sparsity_type": "pooling"}, [61, 40]),
    "first query": ({"lsg_sparsity_type": "bos_pooling", "lsg_global_tokens": 3}, [61, 40]),
    "hashes": ({"lsg_sparsity_type": "lsh"}, [40, 23]),
    "strides, few blocks": ({"lsg_sparsity_type": "block_stride", "lsg_no_global_to_decoder": True}, [9, 5]),
    "window": ({"lsg_sparsity_type": "none", "checkpoint_activations": True}, [37, 37]),
    "hidden first token": ({"lsg_mask_first_token": True, "pointer": True}, [40, 3]),
}
ALL = {("blockwise", name): case for name, case in CASES.items()} | {("lsg", name): case for name, case in LSG.items()}
#: With two ranks no rank is between others, and the next part is the only other one: they need fewer cases.
OF_TWO = [("blockwise", name) for name in ("halving", "one token", "attention", "chunks")]
OF_TWO += [("lsg", name) for name in ("norm", "far", "first query")]
SUMMARY = torch.tensor([[2, 5, 6, 7]])
TARGET = torch.tensor([[5, 6, 7, 2]])


def step(model, tokens, training=True):
    """Return loss, gradients and record of a step without dropout; with chunks also the results without gradients."""
    model.train(training)
    count = len(tokens)
    out = model.encoder(tokens)
    decoded = model.decoder(SUMMARY.expand(count, -1), encoder_out=out)
    probabilities = model.get_normalized_probs(decoded, log_probs=True)
    loss = -probabilities.gather(2, TARGET.expand(count, -1).unsqueeze(2)).sum()
    loss.backward()
    found = {
        "loss": loss.detach(),
        "vectors": vectors(out),
        "mask": out["encoder_padding_mask"][0],
        "slots": out["pooling_slots"],
        "weights": out["pooling_weights"],
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
    }
    if model.encoder.chunk_tokens:  # chunks are read otherwise without gradients
        with torch.no_grad():
            again = model.eval().encoder(tokens)
        found["summarised"] = [vectors(again), again["pooling_slots"], again["pooling_weights"]]
    return found


def narrow(layer, inputs, output, most):
    assert inputs[0].size(1) <= most


def vectors(out):
    """Return the vectors of an encoder's output, with zeros for padding."""
    return out["encoder_out"][0].detach().masked_fill(out["encoder_padding_mask"][0].T.unsqueeze(2), 0)


@pytest.mark.parametrize("size, names", [(2, OF_TWO), (4, list(ALL))], ids=["2", "4"])
def test_ranks_give_the_losses_and_gradients_of_one_process(
    tiny_model, exact_softmax, random_tokens, tmp_path, size, names
):
    """Check that the mean of the ranks' gradients is the gradient, for any lengths, padding, blocks and chunks."""

    models = {}
    for attention, name in names:
        options = {option: value for option, value in ALL[attention, name][0].items() if option != "chunk"}
        models[attention, name] = tiny_model(attention=attention, **options)

    def found(case):
        return step(models[case], random_tokens(ALL[case][1]), training=case[1] != "hashes")

    def main(rank):
        group = sequence_group(size, timeout=30)
        for case, model in models.items():
            model.encoder.read_in_chunks(chunk := ALL[case][0].get("chunk", 0))
            model.encoder.spread_documents(group)
            if chunk:
                model.encoder.layers[0].register_forward_hook(partial(narrow, most=chunk))
        return {case: found(case) for case in names}

    ranks = on_ranks(main, size, tmp_path)
    for case in names:
        check(case, [one[case] for one in ranks], found(case))


def test_dropout_follows_the_seed_and_ranks_agree_on_slots(tiny_model, random_tokens, tmp_path):
    """Check that a seed repeats a step, that another seed changes it, and that ranks agree on random slots."""

    def main(rank):
        group = sequence_group(2, timeout=30)
        found = []
        for scorer in ("linear", "random"):
            for seed in (1, 1, 2):
                model = tiny_model(dropout=0.2, attention_dropout=0.2, activation_dropout=0.2, scorer=scorer)
                model.encoder.spread_documents(group)
                torch.manual_seed(seed)
                found.append(step(model, random_tokens([40, 23])))
        return found

    ranks = on_ranks(main, 2, tmp_path)
    for found, other in zip(*ranks):
        close(found["slots"], other["slots"], "slots")
        close(found["weights"], other["weights"], "weights")
    for first, again, another in (ranks[1][:3], ranks[1][3:]):
        close(first, again, "the same seed")
        assert not torch.equal(first["loss"], another["loss"])


def check(name, ranks, expected):
    for found in ranks:
        for key in ("loss", "vectors", "mask", "slots", "weights"):
            close(found[key], expected[key], f"{name} {key}")
        if "summarised" in found:
            expectation = [expected[key] for key in ("vectors", "slots", "weights")]
            close(found["summarised"], expectation, f"{name}, without gradients")
    for parameter, gradient in expected["gradients"].items():
        close(sum(found["gradients"][parameter] for found in ranks) / len(ranks), gradient, f"{name} {parameter}")


def close(found, expected, what):
    torch.testing.assert_close(found, expected, **EXACT, msg=lambda text: f"{what}: {text}")
