"""Tests of counted multiplications against the paper's claims and a real forward pass."""

import importlib.util

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pyramidion_fairseq.attention import ATTENTIONS
from pyramidion_fairseq.complexity import build_on_meta, count
from tests.helpers.paths import ROOT

N = 8192


@pytest.fixture(scope="module")
def cost():
    models = {}

    def of(arch, source=N, target=512, **changes):
        key = (arch, *sorted(changes.items()))
        models.setdefault(key, build_on_meta(arch, **changes))
        return count(models[key], source, target)

    return of


@pytest.mark.paper("claim-sublinear", "encoder-2.5x")
def test_encoder_self_attention_costs_2_5_times_less(cost):
    ratio = cost("deep_blockwise").encoder_attention / cost("deeppyramidion").encoder_attention
    assert ratio == pytest.approx(2.462, abs=1e-3)


@pytest.mark.paper("blocks-16x")
def test_blocks_cost_16_times_less_than_full_attention(cost):
    assert cost("vanilla_8k").encoder_attention == 16 * cost("blockwise_8k").encoder_attention


@pytest.mark.paper("table-1-cross", "fewer-states")
def test_cross_attention_after_pooling_costs_16_times_less(cost):
    assert cost("deep_blockwise").cross_attention == 16 * cost("deeppyramidion").cross_attention


@pytest.mark.paper("claim-13x", "order-of-outputs")
@pytest.mark.parametrize("target, ratio", [(128, 13.0), (256, 11.0), (512, 8.5)])
def test_decoder_attention_costs_8_5_to_13_times_less(cost, target, ratio):
    """Check that the ratio is exactly 13 only for summaries of 128 tokens."""
    blockwise, pyramidion = (cost(arch, target=target) for arch in ("deep_blockwise", "deeppyramidion"))
    assert blockwise.decoder_attention / pyramidion.decoder_attention == pytest.approx(ratio)


@pytest.mark.paper("fig-4")
@pytest.mark.parametrize("schedule, ratio", [("1:2048,2:512", 6.7), ("2:512", 5.3)])
def test_cost_ratio_of_16_layers_in_figure_4_for_two_schedules(cost, schedule, ratio):
    layers = {"target": 256, "encoder_layers": 16, "decoder_layers": 16}
    pyramidion = cost("pyramidion", pooling_schedule=schedule, **layers)
    assert cost("blockwise", **layers).multiplications / pyramidion.multiplications == pytest.approx(ratio, abs=0.05)


@pytest.mark.paper("one-dense-layer")
@pytest.mark.parametrize("target, ratio", [(512, 5.02), (128, 6.26)])
def test_all_attention_costs_five_times_less_than_one_dense_layer(cost, target, ratio):
    ours = cost("deeppyramidion", target=target)
    dense = cost("deep_blockwise", attention="full", encoder_layers=1).encoder_attention
    assert dense / (ours.encoder_attention + ours.decoder_attention) == pytest.approx(ratio, abs=5e-3)


@pytest.mark.paper("row-24")
def test_row_24_attention_costs_12_8_and_4_times_less_than_row_3(cost):
    vanilla = cost("vanilla_8k")
    row_24 = cost("transpooler", encoder_layers=3, pooling_schedule="2:4096,3:2048")
    assert vanilla.encoder_attention / row_24.encoder_attention == pytest.approx(12.8)
    assert vanilla.cross_attention / row_24.cross_attention == 4


@pytest.mark.paper("break-even")
def test_attention_costs_as_much_as_the_rest_of_a_layer_at_about_4k_tokens(cost):
    """Check Section 5: 2 n^2 d = 12 n d^2 at n = 6 d."""
    at = cost("deep_blockwise", source=6 * 768, attention="full", encoder_layers=1, max_source_positions=6 * 768)
    assert at.encoder_attention == at.encoder_linear


@pytest.mark.paper("params-deep", "params-shallow")
@pytest.mark.parametrize(
    "arch, vocabulary, millions",
    [
        ("deeppyramidion", 32000, 123.81),
        ("deeppyramidion", 32768, 124.40),
        ("transpooler", 32000, 31.10),
        ("transpooler", 32768, 31.49),
    ],
)
def test_deep_and_shallow_models_have_the_expected_numbers_of_parameters(arch, vocabulary, millions):
    parameters = sum(p.numel() for p in build_on_meta(arch, vocabulary).parameters()) / 1e6
    assert parameters == pytest.approx(millions, abs=6e-3)


def test_funnel_decoder_attends_to_the_upsampled_length(cost):
    assert cost("funnel_8k_512").cross_attention == cost("blockwise_8k").cross_attention
    assert cost("funnel_8k_512", no_upsampling=True).cross_attention * 16 == cost("blockwise_8k").cross_attention


SMALL = {"pooling_schedule": "1:20,2:6", "block_size": 8, "max_source_positions": 64}
VARIANTS = [{"attention": name, **SMALL} for name in ATTENTIONS.names()] + [
    {"pooling_schedule": ""},
    {
        "attention": "lsg",
        "lsg_sparsity_type": "lsh",
        "lsg_global_tokens": 3,
        "lsg_no_global_to_decoder": True,
        **SMALL,
    },
    {"attention": "lsg", "lsg_sparsity_type": "none", **SMALL},
    {"attention": "lsh", "local_heads": 0, "lsh_hashes": 2, **SMALL},
]


@pytest.mark.paper("table-1")
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("source, target", [(40, 7), (37, 5), (3, 3)])
def test_counts_match_the_flops_of_a_real_forward_pass(tiny_model, random_tokens, changes, source, target):
    """Compare all but the sums of the pooler, which torch's counter does not count."""
    model = tiny_model(**changes)
    summary = torch.full((1, target), 5)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(random_tokens([source]), None, summary)
    counted = count(model, source, target)
    lengths = dict(zip(range(1, 4), model.encoder.schedule.input_lengths(source, 3)))
    sums = sum(lengths[layer] * 8 for layer, k in model.encoder.schedule.steps if lengths[layer] > k)
    assert counter.get_total_flops() == 2 * (counted.multiplications - sums)


@pytest.mark.paper("table-1-c", "halving-sum")
@pytest.mark.parametrize("length, kept", [(8192, 512), (8192, 1), (4096, 2048), (64, 64)])
def test_halving_after_every_layer_costs_less_than_two_layers(length, kept):
    """Check Section 3.2: sum over i = 0 .. p of 2^-i m n d = (2 - k/n) m n d < 2 m n d, p = log2(n / k)."""
    layers, block, width = (length // kept).bit_length(), 64, 8
    changes = {"encoder_layers": layers, "block_size": block, "max_source_positions": length}
    widths = {"encoder_embed_dim": width, "decoder_embed_dim": width, "pooling_schedule": "halve"}
    pooled = count(build_on_meta("pyramidion", vocabulary=100, **changes, **widths), length, 8)
    m_n_d = 2 * block * length * width  # logits and values
    lengths = [length >> i for i in range(layers)]
    assert lengths[-1] == kept and sum(lengths) == (2 - kept / length) * length
    if kept >= block:  # within one block, attention costs less than by the formula
        assert pooled.encoder_attention == (2 - kept / length) * m_n_d
    assert pooled.encoder_attention < 2 * m_n_d


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("complexity_benchmark", ROOT / "benchmarks" / "complexity.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # it imports modules of this folder
        spec.loader.exec_module(module)
    return module


@pytest.mark.paper("table-1", "table-1-c", "linformer")
def test_table_1_has_every_line_and_the_effective_number_of_layers(benchmark):
    text = benchmark.table_1(N, 512)
    lines = {line.split()[0]: line.split() for line in text.splitlines()[1:-2]}
    assert list(lines) == ["Vanilla", "Sparse", "Linformer", "LSH", "Efficient", "PoWER", "Transpooler", "Pyramidion"]
    assert benchmark.effective_layers("vanilla", N) == benchmark.effective_layers("transpooler", N) == 2
    assert benchmark.effective_layers("pyramidion", N) == benchmark.effective_layers("power_8k_2k_512", N) == 1.25
    assert benchmark.effective_layers("pyramidion_8k_4k_2k_1k", N) == 2 - 2048 / N  # below 2
    assert benchmark.linformer(N) == 2 * 2 * N * 256 * 512 and " ".join(lines["Linformer"][1:5]) == "l n r d"
    assert {"lsh", "efficient", "power_8k_2k_512"} <= set(benchmark.TABLE_1)


@pytest.mark.paper("params-shallow")
def test_shallow_model_has_16_38m_embedding_and_14_71m_other_parameters():
    """Compare Table 5's 32M: at 32,000 symbols one embedding has 16.38M and the rest 14.71M, in all 31.10M.

    32,768 symbols make 31.49M. A table of positions for 1,024 tokens, counted as parameters, would make 31.62M, which
    rounds to 32M; untied embeddings, 47.5M, do not.
    """
    model = build_on_meta("transpooler", 32000)
    embedding = model.encoder.embed_tokens.weight.numel()
    total = sum(parameter.numel() for parameter in model.parameters())
    assert embedding == 32000 * 512 and model.decoder.output_projection.weight is model.encoder.embed_tokens.weight
    assert (round(embedding / 1e6, 2), round((total - embedding) / 1e6, 2)) == (16.38, 14.71)
    assert round((total + 1024 * 512) / 1e6, 2) == 31.62
    untied = sum(p.numel() for p in build_on_meta("transpooler", 32000, share_all_embeddings=False,
                                                  share_decoder_input_output_embed=True).parameters())  # fmt: skip
    assert round(untied / 1e6, 1) == 47.5


@pytest.fixture
def rates(monkeypatch):
    """Return {architecture: rate} of the paper's training times, computed by benchmarks/complexity.py."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import complexity

    return {rate.arch: rate for rate in complexity.rates()}


def test_some_published_training_rates_exceed_an_a100_in_float32(rates):
    """Compare with the data sheet's 19.5 TFLOP/s (156 in TF32), and row 5 of Table 10 with a calculation by hand."""
    n, d, ffn, block, t, vocabulary = N, 512, 2048, 512, 256, 32000
    encoder = 2 * (n * (4 * d * d + 2 * d * ffn) + 2 * n * block * d)
    memory, target = n * 2 * d * d, t * (4 * d * d + 2 * d * d + 2 * d * ffn)
    decoder = 2 * (memory + target + 2 * t * t * d + 2 * t * n * d) + t * vocabulary * d
    rate = rates["blockwise_8k"]
    assert rate.seconds == 0.85
    assert rate.encoder == pytest.approx(6 * 64 * encoder / 0.85 / 1e12, rel=1e-3)
    assert rate.whole == pytest.approx(6 * 64 * (encoder + decoder) / 0.85 / 1e12, rel=1e-3)
    above = [arch for arch, rate in rates.items() if rate.encoder > 19.5]
    assert len(rates) == 30 and len(above) == 7 and {"deep_blockwise", "blockwise_8k", "deeppyramidion"} <= set(above)
    assert sum(rate.whole > 19.5 for rate in rates.values()) == 14
    assert max(rate.whole for rate in rates.values()) < 156 / 4


def test_unwritable_json_path_is_refused_before_the_tables_are_printed(benchmark, monkeypatch, tmp_path, capsys):
    path = tmp_path / "missing" / "counts.json"
    monkeypatch.setattr("sys.argv", ["complexity.py", "vanilla", "--json", str(path)])
    with pytest.raises(SystemExit):
        benchmark.main()
    told = capsys.readouterr()
    assert f"cannot write {path}: folder {path.parent} does not exist" in told.err and told.out == ""


def test_table_1_counts_no_more_tokens_than_the_models_read(benchmark):
    """Check that Linformer's line and c also count only the first 8192 tokens of a longer document."""
    assert benchmark.table_1(8 * N, 512) == benchmark.table_1(N, 512)
    assert benchmark.effective_layers("pyramidion", 8 * N) == 1.25
