"""Count multiplications and activations of named architectures (Table 1 of the paper), and check the paper's claims.

usage: complexity.py [ARCH ...] [--source 8192] [--target 512] [--vocabulary 32000] [--json FILE]

Counts are computed from the schedule and the shapes, for one document with teacher forcing. No model is run. The last
table compares the rate of matrix products implied by the paper's training times with the peak of an A100.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import measure

from pyramidion_fairseq.cli.common import check_output
from pyramidion_fairseq.complexity import Cost, build_on_meta, count
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.models.architectures import ARCHITECTURES, PUBLISHED
from pyramidion_fairseq.utils.files import write_text

TABLE_1 = ["vanilla", "blockwise", "lsh", "efficient", "power_8k_2k_512", "transpooler", "pyramidion"]
TABLE_1 += ["pyramidion_8k_4k_2k_1k", "deep_blockwise", "deeppyramidion"]
#: Table 1 of the paper: architecture, self-attention, cross-attention.
PRINTED = {
    "Vanilla": ("vanilla", "l n n d", "l t n d"),
    "Sparse": ("blockwise", "l m n d", "l t n d"),
    "Linformer": ("", "l n r d", "-"),
    "LSH": ("lsh", "l m h n d", "-"),
    "Efficient": ("efficient", "l n d d", "-"),
    "PoWER": ("power_8k_2k_512", "c n n d", "-"),
    "Transpooler": ("transpooler", "l m n d", "l t k d"),
    "Pyramidion": ("pyramidion", "c m n d", "l t k d"),
    "Pyramidion, halved after each of 3 layers": ("pyramidion_8k_4k_2k_1k", "c m n d", "l t k d"),
}
#: Rank of Linformer's projections (Wang et al. 2020, at 512 tokens); it is not built here, its line is its formula.
LINFORMER_RANK, SHALLOW_WIDTH, SHALLOW_LAYERS = 256, 512, 2
COLUMNS = [
    ("enc. attention", lambda cost: cost.encoder_attention),
    ("enc. linear", lambda cost: cost.encoder_linear),
    ("pooling", lambda cost: cost.pooling),
    ("cross-attention", lambda cost: cost.cross_attention),
    ("dec. self-att.", lambda cost: cost.decoder_self_attention),
    ("dec. linear", lambda cost: cost.decoder_linear),
    ("all", lambda cost: cost.multiplications),
    ("activations", lambda cost: cost.encoder_activations + cost.decoder_activations),
]


def table(costs: dict[str, Cost], parameters: dict[str, int]) -> str:
    """Return one line for each architecture, in billions (10^9); parameters in millions."""
    lines = [f"{'10^9':<24}" + "".join(f"{name:>17}" for name, _ in COLUMNS) + f"{'parameters':>14}"]
    for arch, cost in costs.items():
        cells = "".join(f"{column(cost) / 1e9:17.3f}" for _, column in COLUMNS)
        lines.append(f"{arch:<24}{cells}{parameters[arch] / 1e6:13.2f}M")
    return "\n".join(lines)


def effective_layers(arch: str, source: int) -> float:
    """Return c of Table 1: self-attention of the encoder, in layers that read the whole document.

    l where it does not pool; below 2 where every layer keeps at most half, however many layers there are.
    """
    model = build_on_meta(arch)
    read = min(source, model.max_positions()[0])
    lengths = model.encoder.schedule.input_lengths(read, len(model.encoder.layers))
    attention = [layer.self_attn.multiplications(n) for layer, n in zip(model.encoder.layers, lengths)]
    return sum(attention) / attention[0]


def table_1(source: int, target: int) -> str:
    """Return Table 1: the paper's formulas, c, and the counted multiplications in 10^9."""
    lines = [f"{'Table 1':<43}{'self-attention':>15}{'l or c':>8}{'10^9':>9}{'cross-attention':>17}{'10^9':>9}"]
    for name, (arch, self_attention, cross) in PRINTED.items():
        if arch:
            cost, layers = count(build_on_meta(arch), source, target), f"{effective_layers(arch, source):.2f}"
            of_encoder, of_decoder = cost.encoder_attention, f"{cost.cross_attention / 1e9:.3f}"
        else:
            of_encoder, layers = linformer(source), f"{SHALLOW_LAYERS:.2f}"
            of_decoder = "-"
        lines.append(f"{name:<43}{self_attention:>15}{layers:>8}{of_encoder / 1e9:9.3f}{cross:>17}{of_decoder:>9}")
    note = f"Linformer by its formula, twice as the others (logits and values), r = {LINFORMER_RANK}. PoWER in blocks."
    return "\n".join([*lines, note])


def linformer(source: int) -> int:
    """Return multiplications of Linformer's attention in the shallow encoder: 2 l n r d, its projections left out."""
    read = min(source, build_on_meta("vanilla").max_positions()[0])  # as its neighbours in the table
    return 2 * SHALLOW_LAYERS * read * LINFORMER_RANK * SHALLOW_WIDTH


def claims() -> list[tuple[str, str, float]]:
    """Return (claim of the paper, published, counted) at 8192 tokens."""

    def cost(arch: str, target: int = 512, **changes) -> Cost:
        return count(build_on_meta(arch, **changes), 8192, target)

    blockwise, ours, vanilla = cost("deep_blockwise"), cost("deeppyramidion"), cost("vanilla_8k")
    dense = cost("deep_blockwise", attention="full", encoder_layers=1).encoder_attention
    row_24 = cost("transpooler", encoder_layers=3, pooling_schedule="2:4096,3:2048")
    short = [cost(arch, target=128).decoder_attention for arch in ("deep_blockwise", "deeppyramidion")]
    return [
        ("encoder self-attention, DeepPyramidion", "2.5x", blockwise.encoder_attention / ours.encoder_attention),
        (
            "encoder self-attention, blocks of 512",
            "16x",
            vanilla.encoder_attention / cost("blockwise_8k").encoder_attention,
        ),
        ("cross-attention, DeepPyramidion", "16x", blockwise.cross_attention / ours.cross_attention),
        ("decoder attention, 128 target tokens", "13x", short[0] / short[1]),
        ("decoder attention, 512 target tokens", "(13x)", blockwise.decoder_attention / ours.decoder_attention),
        (
            "one dense 8k layer / all attention of ours",
            "5x",
            dense / (ours.encoder_attention + ours.decoder_attention),
        ),
        ("row 24: encoder, against row 3", "13x", vanilla.encoder_attention / row_24.encoder_attention),
        ("row 24: cross-attention, against row 3", "4x", vanilla.cross_attention / row_24.cross_attention),
    ]


class Rate(NamedTuple):
    """The rate of matrix products that a published training time implies."""

    table: str
    row: str
    arch: str
    seconds: float
    """Published, of a step with 64 documents."""
    encoder: float
    """TFLOP/s of the encoder's products alone, a lower bound."""
    whole: float
    """TFLOP/s of all products, with summaries of 256 tokens."""


#: Documents in a batch of the paper's training times, and tokens of a summary, which for training it does not say.
DOCUMENTS, SUMMARY = 64, 256


def rates() -> list[Rate]:
    """Return the rate of every published training time of a named architecture, each time once.

    Documents of full length, as the published code pads them; a multiplication and an addition each, three passes as
    long as the first: forward, gradients of the inputs, gradients of the weights.
    """
    found, seen = [], set()
    for row in measure.published():
        arch = PUBLISHED.get((row["table"], row["row"]))
        if arch is None or not row["train_s"] or arch in seen:
            continue
        seen.add(arch)
        model, seconds = build_on_meta(arch), float(row["train_s"])
        cost = count(model, model.max_positions()[0], SUMMARY)
        encoder = cost.encoder_linear + cost.encoder_attention
        each = [6e-12 * DOCUMENTS * products / seconds for products in (encoder, cost.multiplications)]
        found.append(Rate(row["table"], row["row"], arch, seconds, *each))
    return found


def rates_table(found: list[Rate]) -> str:
    """Return the rates, the highest first, and the peak of an A100."""
    lines = [
        f"{'Training times of the paper, ' + str(DOCUMENTS) + ' documents':<46}{'s':>10}{'encoder':>10}{'all':>10}"
    ]
    for rate in sorted(found, key=lambda rate: -rate.encoder):
        name = f"Table {rate.table}, {rate.row}: {rate.arch}"
        lines.append(f"{name:<46}{rate.seconds:10.2f}{rate.encoder:10.1f}{rate.whole:10.1f}")
    single, tf32 = (peak / 1e12 for peak in measure.PEAKS["A100"][:2])
    above = [sum(column > single for column in columns) for columns in zip(*(rate[4:] for rate in found))]
    counted = f"above float32: {above[0]} of {len(found)} by the encoder alone, {above[1]} in all"
    return "\n".join([*lines, f"TFLOP/s; an A100: {single:g} in float32, {tf32:g} in TF32; {counted}"])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arch", nargs="*", default=TABLE_1, help="named architectures (default: those of Table 1)")
    parser.add_argument(
        "--source", type=int, default=8192, help="tokens of the document, truncated to the model's length"
    )
    parser.add_argument("--target", type=int, default=512, help="tokens of the summary")
    parser.add_argument("--vocabulary", type=int, default=32000, help="symbols")
    parser.add_argument("--json", type=Path, help="also write the counts to this file")
    args = parser.parse_args()
    unknown = [arch for arch in args.arch if arch not in ARCHITECTURES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(sorted(ARCHITECTURES))}")
    if min(args.source, args.target, args.vocabulary) < 4:
        parser.error("--source, --target and --vocabulary must be at least 4")
    try:
        if args.json:
            check_output(str(args.json), overwrite=True)
        models = {arch: build_on_meta(arch, args.vocabulary) for arch in args.arch}
    except PyramidionError as error:
        parser.error(str(error))
    costs = {arch: count(model, args.source, args.target) for arch, model in models.items()}
    parameters = {arch: sum(p.numel() for p in model.parameters()) for arch, model in models.items()}
    lengths = f"One document of {args.source} tokens, cut to what each reads, a summary of {args.target}"
    print(f"{lengths}: multiplications and activations\n")
    print(table(costs, parameters))
    print(f"\n{table_1(args.source, args.target)}")
    print(f"\n{'Claims of the paper at 8192 tokens':<46}{'published':>10}{'counted':>10}")
    for claim, published, counted in claims():
        print(f"{claim:<46}{published:>10}{counted:9.2f}x")
    print(f"\n{rates_table(rates())}")
    if args.json:
        rows = {arch: {**cost._asdict(), "parameters": parameters[arch]} for arch, cost in costs.items()}
        write_text(args.json, json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
