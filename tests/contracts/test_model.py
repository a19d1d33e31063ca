"""Contract tests of the encoder-decoder with every registered attention, scorer and pooler."""

import pytest
import torch

from pyramidion_fairseq.attention import ATTENTIONS
from pyramidion_fairseq.attention.lsg import SPARSITY_TYPES
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.poolers import POOLERS
from pyramidion_fairseq.scorers import SCORERS
from tests.helpers.models import distinct

VARIANTS = distinct(
    [{"attention": name} for name in ATTENTIONS.names()]
    + [{"scorer": name} for name in SCORERS.names()]
    + [{"pooler": name} for name in POOLERS.names()]
    + [{"attention": "lsg", "lsg_sparsity_type": kind} for kind in SPARSITY_TYPES]
    + [
        {"scorer": "attention_sum", "pooler": "hard_topk"},
        {"scorer": "attention_sum", "attention": "full", "encoder_normalize_before": True},
        {"scorer": "attention_sum", "checkpoint_activations": True},
        {"pooler": "funnel", "no_upsampling": True},
        {"pooler": "funnel", "encoder_normalize_before": True},
        {"pooling_schedule": ""},
        {"pooling_schedule": "3:5"},
        {"block_size": 1},
        {"block_size": 1000},
        {"attention": "lsh", "local_heads": 0},
        {"attention": "lsh", "lsh_hashes": 1, "lsh_bucket_size": 3, "local_window": 3},
        {"attention": "efficient", "local_heads": 0},
        {"attention": "efficient", "local_heads": 2},
        {"attention": "lsg", "lsg_global_tokens": 3, "lsg_sparsity_factor": 4, "layernorm_embedding": True},
        {"attention": "lsg", "lsg_sparse_block_size": 8, "lsg_sparsity_factor": 1, "lsg_mask_first_token": True},
        {"attention": "lsg", "lsg_no_global_to_decoder": True, "lsg_sparse_block_size": 0},
        {"attention": "lsg", "lsg_no_global_to_decoder": True, "lsg_no_pool_with_global": True},
        {"encoder_normalize_before": True, "decoder_normalize_before": True},
        {"encoder_learned_pos": True, "decoder_positions": True, "decoder_learned_pos": True},
        {"checkpoint_activations": True},
        {"scorer_activation": "none", "softmax_base": 0.0},
        {"pointer": True},
        {"pointer": True, "pooler": "hard_topk", "pointer_heads": 2, "pointer_layer": 1},
        {"pointer": True, "pooling_schedule": ""},
        {"pointer": True, "pooler": "funnel"},
        {"pointer": True, "attention": "lsg", "lsg_no_global_to_decoder": True},
    ]
)
pytestmark = pytest.mark.parametrize("options", VARIANTS, ids=str)


def read(model, tokens, summary):
    """Return the encoder's states, their mask, and the logits of one pass."""
    out = []
    hook = model.encoder.register_forward_hook(lambda _, __, encoded: out.append(encoded))
    logits = model(tokens, None, summary)[0]
    hook.remove()
    (encoded,) = out
    return encoded["encoder_out"][0].transpose(0, 1), encoded["encoder_padding_mask"][0], logits


def pad_left(tokens, by):
    return torch.cat([torch.ones(tokens.size(0), by, dtype=torch.long), tokens], dim=1)


LENGTHS = [1, 4, 5, 12, 13, 40, 64]


@torch.no_grad()
def test_batching_and_padding_do_not_change_states_and_logits(tiny_model, random_tokens, options):
    """Check each document alone, after padding, and in a batch with padding on either side."""
    model = tiny_model(**options)
    poolers = [(pooling.pooler, pooling.k) for pooling in model.encoder.poolings.values()]
    upsamples = any(pooler.upsamples for pooler, _ in poolers)
    batch = random_tokens(LENGTHS, seed=1)
    summaries = torch.tensor([[2, 9, 8, 7]]).expand(len(LENGTHS), -1)
    left_padded = torch.stack([row.roll(64 - length) for row, length in zip(batch, LENGTHS)])
    together = [read(model, tokens, summaries) for tokens in (batch, left_padded, pad_left(batch, 5))]
    for row, length in enumerate(LENGTHS):
        document = batch[row : row + 1, :length]
        alone, alone_mask, alone_logits = read(model, document, summaries[:1])
        kept = length
        for pooler, k in poolers:
            kept = pooler.output_length(kept, k)
        kept = (length if upsamples else kept) + model.encoder.output_globals
        assert (~alone_mask).sum() == kept and not alone_mask[0, :kept].any()
        after_padding = read(model, pad_left(document, 3), summaries[:1])
        for states, mask, logits in (
            [part[0] for part in after_padding],
            *([x[row] for x in out] for out in together),
        ):
            assert torch.equal(mask, torch.arange(len(states)) >= kept)
            torch.testing.assert_close(states[:kept], alone[0, :kept], rtol=0, atol=1e-11)
            torch.testing.assert_close(logits, alone_logits[0], rtol=0, atol=1e-5)  # float32 softmax there


@torch.no_grad()
def test_other_documents_of_a_training_batch_do_not_change_the_states(tiny_model, random_tokens, options):
    """Check with the same random numbers and shape; random numbers may depend on the shape of a batch."""
    model = tiny_model(**options).train()
    first, second = random_tokens([40, 64, 13], seed=1), random_tokens([40, 9, 64], seed=2)
    second[0] = first[0]
    states = []
    for tokens in (first, second):
        torch.manual_seed(1)
        states.append(read(model, tokens, torch.tensor([[2, 9, 8, 7]] * 3)))
    for one, other in zip(*states):
        torch.testing.assert_close(one[0], other[0], rtol=0, atol=1e-11)


@torch.no_grad()
def test_state_dict_determines_the_model(tiny_model, random_tokens, options):
    """Check that random numbers drawn when a variant is built are parameters or buffers."""
    model, other = tiny_model(**options), tiny_model(seed=1, **options)
    other.load_state_dict(model.state_dict())
    tokens, summary = random_tokens([64, 30, 5]), torch.tensor([[2, 9, 8, 7]] * 3)
    for one, same in zip(read(model, tokens, summary), read(other, tokens, summary)):
        assert torch.equal(one, same)


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_encoding_in_chunks_equals_whole_encoding_or_is_refused(tiny_model, random_tokens, options, training):
    """Check variants in chunks; those that need all tokens at once must refuse."""
    whole, chunked = tiny_model(**options).train(training), tiny_model(**options).train(training)
    try:
        chunked.encoder.read_in_chunks(12)
    except PyramidionError as error:
        assert "--encoder-chunk-tokens 12" in str(error)
        return
    tokens = random_tokens([50, 37, 6])
    found, before = chunked.encoder(tokens), torch.get_rng_state()
    expected = whole.encoder(tokens)
    if training and not torch.equal(torch.get_rng_state(), before):
        return  # random numbers of training depend on the shape of the input
    for key in ("encoder_out", "encoder_padding_mask", "pooling_slots", "pooling_weights", "added_scores"):
        torch.testing.assert_close(found[key], expected[key], rtol=0, atol=1e-11)


@pytest.mark.paper("claim-end-to-end")
def test_every_parameter_gets_a_gradient_for_all_lengths(tiny_model, random_tokens, options):
    for lengths in ([64, 30], [3, 2], [1], [5]):
        model = tiny_model(**options).train()
        summaries = torch.tensor([[2, 5, 6]] * len(lengths))
        output = model(random_tokens(lengths), None, summaries)
        model.get_normalized_probs(output, log_probs=True).square().sum().backward()
        unused = [name for name, p in model.named_parameters() if p.grad is None]
        assert not unused


@pytest.mark.paper("pyramidion", "language-modelling")
def test_scorers_exist_only_in_layers_that_pool(tiny_model, options):
    model = tiny_model(**options)
    layers = [str(layer) for layer, _ in model.encoder.schedule.steps]
    assert list(model.encoder.poolings) == layers
    scorers = {name.split(".")[2] for name, _ in model.named_parameters() if ".scorer." in name}
    assert scorers in (set(), set(layers))


def test_encoder_gradients_agree_with_finite_differences(tiny_model, random_tokens, options):
    if options.get("checkpoint_activations"):
        pytest.skip("recomputation is compared with plain backward in test_model.py")
    model = tiny_model(**{"activation_fn": "tanh", **options})  # smooth, unlike relu
    tokens = random_tokens([20, 9], seed=4)
    shape = model.encoder(tokens, None)["encoder_out"][0].shape
    probe = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss():
        out = model.encoder(tokens, None)
        visible = ~out["encoder_padding_mask"][0].T
        scores = sum((scores.T * probe[:, :, 0] * visible).sum() for scores in out["added_scores"])
        return (out["encoder_out"][0] * probe * visible.unsqueeze(-1)).sum() + scores

    parts = {}  # a layer's parameters, or a pooling's, move together
    for name, parameter in model.encoder.named_parameters():
        if "embed_tokens" not in name and "embed_positions" not in name:
            parts.setdefault(".".join(name.split(".")[:2]), []).append(parameter)
    generator, step = torch.Generator().manual_seed(3), 1e-6
    torch.manual_seed(5)
    every = torch.autograd.grad(loss(), [parameter for parameters in parts.values() for parameter in parameters])
    grads_of = iter(every)
    for part, parameters in parts.items():
        grads = [next(grads_of) for _ in parameters]
        directions = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in parameters]
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                torch._foreach_add_(parameters, directions, alpha=sign * step)
                torch.manual_seed(5)
                values.append(loss().item())
                torch._foreach_sub_(parameters, directions, alpha=sign * step)
        numeric = (values[0] - values[1]) / (2 * step)
        exact = sum((grad * direction).sum().item() for grad, direction in zip(grads, directions))
        assert exact == pytest.approx(numeric, rel=1e-4, abs=1e-5), part


@pytest.mark.paper("residuals")
def test_pooling_record_rebuilds_the_pooled_states(tiny_model, random_tokens, options):
    model = tiny_model(**options)
    tokens = random_tokens([50, 11])
    before = []
    for pooling in model.encoder.poolings.values():
        pooling.register_forward_pre_hook(lambda _, inputs: before.append(inputs[0]))
    out = model.encoder(tokens, None, return_all_hiddens=True)
    assert len(out["pooling_slots"]) == len(before) == len(model.encoder.schedule.steps)
    for (layer, _), x, slots, weights in zip(
        model.encoder.schedule.steps, before, out["pooling_slots"], out["pooling_weights"]
    ):
        after = out["encoder_states"][layer].transpose(0, 1)
        parts = weights.unsqueeze(-1) * x
        rebuilt = torch.zeros_like(after).scatter_add(1, slots.unsqueeze(-1).expand_as(parts), parts)
        exact = model.encoder.poolings[str(layer)].pooler.exact_record
        assert ((rebuilt - after).abs().max() < 1e-12) == exact  # an exact record must be declared as exact


def test_reorder_encoder_out_reorders_states_masks_and_record(tiny_model, random_tokens, options):
    model = tiny_model(**options)
    out = model.encoder(random_tokens([30, 20, 10]), None)
    order = torch.tensor([2, 2, 0])
    picked = model.encoder.reorder_encoder_out(out, order)
    assert torch.equal(picked["encoder_out"][0], out["encoder_out"][0][:, order])
    assert torch.equal(picked["encoder_padding_mask"][0], out["encoder_padding_mask"][0][order])
    for key in ("pooling_slots", "pooling_weights"):
        assert len(picked[key]) == len(model.encoder.schedule.steps)
        assert all(torch.equal(a, b[order]) for a, b in zip(picked[key], out[key]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_finite_gradients(tiny_model, random_tokens, options, dtype):
    model = tiny_model(**options).to(dtype).train()
    for lengths in ([64, 20, 1], [5, 3]):
        output = model(random_tokens(lengths), None, torch.tensor([[2, 9, 8]] * len(lengths)))
        model.get_normalized_probs(output, log_probs=True).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_states_are_close_to_float64(tiny_model, random_tokens, options, dtype):
    """Check states before the first pooling; half precision may break near ties differently and change others."""
    model, tokens = tiny_model(**options), random_tokens([64, 20, 1])

    def first_layer(model):
        out = []
        hook = model.encoder.layers[0].register_forward_hook(lambda _, __, y: out.append(y))
        model.encoder(tokens, None)
        hook.remove()
        states = out[0][0] if isinstance(out[0], tuple) else out[0]
        return states[:, -tokens.size(1) :][tokens != 1].double()

    exact, low = first_layer(model), first_layer(model.to(dtype))
    error = (low - exact).norm() / exact.norm()
    assert error < 16 * torch.finfo(dtype).eps
    assert (exact[0] - exact[1]).norm() > 0.5 * exact[0].norm()  # tokens differ by more than any rounding
