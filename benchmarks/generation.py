"""Compare time and memory of generation with stock fairseq's decoder, and inference times of the paper's rows.

    python benchmarks/generation.py --output benchmarks/results/generation_cpu

The protocol is that of the paper's inference columns (Tables 2, 3, 7, 8 and 10): a batch of full-length documents and
a fixed number of generated tokens (``--min-len`` and ``--max-len-b``). Weights and documents are random; the time
depends on neither. All generation uses fairseq's own ``SequenceGenerator``.

"stock" is fairseq's TransformerDecoderBase with the same weights and encoder states, which fairseq's
``reorder_encoder_out`` repeats and selects at every step. "ours" is the package's model. Encoding is measured
separately. Memory is the decoder's peak above the weights and the encoder's output.

The reduced size (the default on a CPU) keeps widths, depths, document lengths and the batch of 8, but generates 32
tokens, has fewer of the paper's rows, and encodes one document at a time. The paper's size generates 256 and 512
tokens and has all rows.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any, Callable, Iterable, NamedTuple

import measure
import torch
from fairseq.data import Dictionary
from fairseq.models import FairseqEncoder, FairseqEncoderDecoderModel
from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from fairseq.sequence_generator import SequenceGenerator
from out_of_memory import attempt
from torch import Tensor

from pyramidion_fairseq.config import PyramidionConfig
from pyramidion_fairseq.generation import cuda_graphs
from pyramidion_fairseq.models import PyramidionModel
from pyramidion_fairseq.models.architectures import ARCHITECTURES, PUBLISHED, fields_of
from pyramidion_fairseq.schedule import PoolingSchedule
from pyramidion_fairseq.utils.files import write_text

VOCABULARY = 32000
#: The paper's model, and the one that it is compared with.
DEEP = ["deeppyramidion", "deep_blockwise"]
#: Rows of the paper that a CPU measures by default; a GPU measures all.
SHORT = ["vanilla_2k", "blockwise_2k", "blockwise_8k", "transpooler_2k_512", "transpooler_8k_2k"]
SHORT += ["pyramidion_8k_8k_2k_512", "pyramidion_8k_8k_2k_512_128"]


class Size(NamedTuple):
    """The sizes of a batch."""

    documents: int
    tokens: int
    beam: int


class FixedEncoder(FairseqEncoder):
    """An encoder that returns given states; ``reorder`` selects from them like the model's encoder."""

    def __init__(self, dictionary: Dictionary, encoder_out: dict[str, list[Tensor]], reorder: Callable):
        super().__init__(dictionary)
        self.encoder_out, self.reorder = encoder_out, reorder

    def forward(self, src_tokens: Tensor, src_lengths: Tensor | None = None, **kwargs) -> dict[str, list[Tensor]]:
        """Return the states, ignoring the tokens."""
        return dict(self.encoder_out)

    def reorder_encoder_out(self, encoder_out: dict[str, list[Tensor]], new_order: Tensor) -> dict[str, list[Tensor]]:
        """Reorder like the model's encoder."""
        return self.reorder(encoder_out, new_order)


def build(arch: str, device: str, dtype: torch.dtype) -> PyramidionModel:
    """Return the architecture at full size, with random weights."""
    dictionary = Dictionary()
    for word in range(VOCABULARY - len(dictionary)):
        dictionary.add_symbol(f"w{word}")
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    torch.manual_seed(0)
    model = PyramidionModel.build_model(Namespace(**fields_of(arch)), task).to(device, dtype).eval()
    model.make_generation_fast_(need_attn=False)  # as fairseq's commands do
    return model


def stock_decoder(model: PyramidionModel) -> TransformerDecoderBase:
    """Return fairseq's decoder with the model's weights, not a copy of them."""
    decoder = TransformerDecoderBase(model.decoder.cfg, model.decoder.dictionary, model.decoder.embed_tokens)
    if model.decoder.embed_positions is None:
        decoder.embed_positions = None
    decoder.load_state_dict(model.decoder.state_dict(), assign=True)
    return decoder.eval()


def encoder_output(model: PyramidionModel, documents: int, states: int) -> dict[str, list[Tensor]]:
    """Return random states in the encoder's format, with a given number per document."""
    like = model.decoder.embed_tokens.weight
    shape = (documents, states, model.encoder.cfg.encoder.embed_dim)
    random = torch.randn(
        shape, device=like.device, dtype=like.dtype, generator=torch.Generator(like.device).manual_seed(1)
    )
    return {
        "encoder_out": [random.transpose(0, 1)],
        "encoder_padding_mask": [torch.zeros(shape[:2], dtype=torch.bool, device=like.device)],
        **{key: [] for key in ("encoder_embedding", "encoder_states", "src_tokens", "fc_results")},
        "src_lengths": [torch.full((documents, 1), states, dtype=torch.int, device=like.device)],
    }


def generator(model: PyramidionModel, out: dict[str, list[Tensor]], size: Size, stock: bool) -> Callable[[], list]:
    """Return a call that writes summaries from the given encoder output: lists of fairseq's hypotheses."""
    dictionary, device = model.decoder.dictionary, out["encoder_out"][0].device
    if stock:
        states = out["encoder_out"][0].transpose(0, 1)
        out = {**out, "encoder_embedding": [states.clone()]}  # stock encoders hand on the embedded tokens, too
        reorder = functools.partial(TransformerEncoderBase.reorder_encoder_out, model.encoder)
    else:
        reorder = model.encoder.reorder_encoder_out
    encoder = FixedEncoder(dictionary, out, reorder)
    fixed = FairseqEncoderDecoderModel(encoder, stock_decoder(model) if stock else model.decoder)
    search = SequenceGenerator(
        [fixed], dictionary, beam_size=size.beam, min_len=size.tokens - 1, max_len_b=size.tokens - 1
    )
    tokens = torch.full((size.documents, 8), 5, device=device)
    lengths = torch.full((size.documents,), 8, device=device)
    return lambda: search.generate([fixed], {"net_input": {"src_tokens": tokens, "src_lengths": lengths}})


def with_graphs(model: PyramidionModel, call: Callable[[], list]) -> list:
    """Return the call's result, steps recorded and replayed."""
    with cuda_graphs(model):
        return call()


def same_tokens(one: list, other: list) -> bool:
    """Return whether two results of :func:`generator` have the same hypotheses."""
    pairs = zip((h for document in one for h in document), (h for document in other for h in document))
    return all(torch.equal(a["tokens"], b["tokens"]) for a, b in pairs)


def compare(arch: str, size: Size, rounds: int, device: str, precision: str) -> dict[str, Any]:
    """Return an architecture's encoder once, and both decoders on the same random states: times, peaks, tokens."""
    model = build(arch, device, measure.PRECISIONS[precision])
    states, written = decoder_states(arch), {}
    out = encoder_output(model, size.documents, states)
    calls = {name: generator(model, out, size, name == "stock") for name in ("stock", "ours")}
    if device != "cpu":
        calls["ours, CUDA graphs"] = functools.partial(with_graphs, model, calls["ours"])

    def keep(name: str) -> None:
        written[name] = calls[name]()

    times = measure.alternate({name: functools.partial(keep, name) for name in calls}, rounds, device)
    names = list(written)
    return {
        "arch": arch,
        "states": states,
        **size._asdict(),
        "same_tokens": all(same_tokens(written[one], written[other]) for one, other in zip(names, names[1:])),
        "encode_seconds_per_document": encoding_seconds(model, 1 if device == "cpu" else size.documents, device),
        "seconds": {name: result._asdict() for name, result in times.items()},
        "peak_bytes": {
            name: math.nan if times[name].failure else measure.peak_memory(call, device)
            for name, call in calls.items()
        },
        "published": published_rows().get(arch),
    }


@torch.no_grad()
def encoding_seconds(model: PyramidionModel, documents: int, device: str) -> float:
    """Return the seconds per document of full length in a batch of the given size."""
    generator = torch.Generator().manual_seed(2)
    shape = (documents, model.encoder.max_source_positions)
    tokens = torch.randint(4, VOCABULARY, shape, generator=generator).to(device)
    known = [tokens.size(1)] * documents  # as the task has it: without it a GPU would mask every block
    calls = {"encode": lambda: model.encoder(tokens, None, document_lengths=known)}
    return measure.alternate(calls, 1, device)["encode"].median / documents


def published_rows() -> dict[str, dict[str, str]]:
    """Return architecture -> table, row and seconds of its first row in the paper that has an inference time."""
    rows: dict[str, dict[str, str]] = {}
    for row in measure.published():
        arch = PUBLISHED.get((row["table"], row["row"]))
        if arch and row["infer512_s"]:
            rows.setdefault(arch, {name: row[name] for name in ("table", "row", "infer256_s", "infer512_s")})
    return rows


def decoder_states(arch: str) -> int:
    """Return how many vectors of a full-length document the decoder reads."""
    options = {**vars(PyramidionConfig()), **fields_of(arch)}
    schedule = PoolingSchedule.of(
        options["pooling_schedule"], options["max_source_positions"], options["encoder_layers"]
    )
    if not schedule.steps or (options["pooler"] == "funnel" and not options["no_upsampling"]):
        return options["max_source_positions"]
    return schedule.steps[-1][1]


def median(result: dict[str, Any], name: str) -> float:
    """Return the seconds of generation without encoding."""
    return result["seconds"][name]["median"]


def goals(ours: dict[str, Any], baseline: dict[str, Any], device: str) -> list[list[Any]]:
    """Return the targets: description, measured value, bound, and whether it is met."""
    rows = []
    for result, least in ((ours, 1.6), (baseline, 2.8)):
        peak, what = result["peak_bytes"], f"generation from {result['states']} states"
        rows.append([f"{what}: time, stock / ours", median(result, "stock") / median(result, "ours"), ">=", least])
        rows.append([f"{what}: memory, ours / stock", peak["ours"] / peak["stock"], "<=", 0.6])
        none = math.isnan(peak["ours"] + peak["stock"])
        rows.append([f"{what}: same tokens", math.nan if none else result["same_tokens"], ">=", True])
    what, ratio = (
        f"{baseline['arch']} by stock / {ours['arch']} by ours",
        median(baseline, "stock") / median(ours, "ours"),
    )
    rows.append([f"{what}: time of generation", ratio, ">=", 8.0 if device == "cpu" else 4.5])
    if device != "cpu":
        for name, most in (("ours", 3.0), ("ours, CUDA graphs", 1.0)):
            step = 1e3 * median(ours, name) / ours["tokens"]
            rows.append([f"{ours['arch']}: ms per step, {name}", step, "<=", most])
    words = {"yes": "pass", "no": "FAIL"}
    met = [measure.reached(row[1], row[3], row[2] == ">=") for row in rows]
    return [[*row, words.get(word, word)] for row, word in zip(rows, met)]


def rows_table(results: list[dict[str, Any]]) -> str:
    """Return a row per architecture and length."""
    lines = []
    for result in results:
        graphs = result["seconds"].get("ours, CUDA graphs", {"median": None})["median"]
        steps = [1e3 * median(result, name) / result["tokens"] for name in ("stock", "ours")]
        encoding = result["encode_seconds_per_document"] * result["documents"]
        whole = [encoding + median(result, name) for name in ("stock", "ours")]
        peaks = [result["peak_bytes"][name] / 1e6 for name in ("stock", "ours")]
        paper = result["published"] or dict.fromkeys(("table", "row", "infer256_s", "infer512_s"))
        row = f"{paper['table']}: {paper['row']}" if result["published"] else None
        counts = [result[name] for name in ("arch", "states", "documents", "tokens", "beam")]
        about = measure.Times(**result["seconds"]["ours"]).about()
        lines.append([*counts, encoding, *steps, graphs and 1e3 * graphs / result["tokens"], steps[0] / steps[1]])
        lines[-1] += [*whole, about, *peaks]
        lines[-1] += [row, paper["infer256_s"], paper["infer512_s"]]
    headers = ["architecture", "states", "documents", "tokens", "beam", "encode s", "stock ms/step", "ours ms/step"]
    headers += ["CUDA graphs ms/step", "stock/ours", "stock s in all", "ours s in all"]
    headers += ["ours without encoding, mean ± deviation s", "stock peak MB", "ours peak MB"]
    return measure.table([*headers, "table: row", "published 256 s", "published 512 s"], lines)


def figure(results: list[dict[str, Any]]) -> Any:
    """Plot the milliseconds per step of both decoders side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(figsize=(8, 0.5 * len(results) + 1.2))
    for shift, name in ((0.2, "stock"), (-0.2, "ours")):
        rows = [len(results) - i + shift for i in range(len(results))]
        axes.barh(rows, [1e3 * median(r, name) / r["tokens"] for r in results], height=0.4, label=name)
    labels = [f"{r['arch']}, {r['tokens']} tokens" for r in results]
    axes.set_yticks([len(results) - i for i in range(len(results))], labels)
    axes.set_xlabel(f"ms per step, {results[0]['documents']} documents, beam {results[0]['beam']}")
    axes.legend()
    return drawing


def keep(output: Path | None, results: list[dict[str, Any]], failures: list[list[Any]]) -> None:
    """Write the results so far, so that an interrupted run keeps them."""
    if output is not None:
        so_far = {"results": measure.plain(results), "failures": failures}
        write_text(output / "generation.so_far.json", json.dumps(so_far, indent=1) + "\n")


def check_lengths(arguments: argparse.ArgumentParser, architectures: Iterable[str], tokens: int) -> None:
    """Exit if an architecture cannot write this many tokens."""
    for arch in architectures:
        most = {**vars(PyramidionConfig()), **fields_of(arch)}["max_target_positions"]
        if tokens > most:
            arguments.error(f"--tokens {tokens}: {arch} writes at most {most}")


def main() -> None:
    """Run the command line; see the file's docstring."""
    arguments = measure.parser(__doc__, rounds=3)
    arguments.add_argument("--arch", nargs="*", choices=sorted(ARCHITECTURES), help="besides the two deep ones")
    arguments.add_argument("--documents", type=int, default=8, help="in a batch (the paper: 8)")
    arguments.add_argument("--tokens", type=int, nargs="*", help="to write (default: 32 reduced; 256 512)")
    arguments.add_argument("--beam", type=int, default=2, help="hypotheses of each document")
    args = measure.parse(arguments)
    paper = args.size == "paper"
    tokens = args.tokens or ([256, 512] if paper else [32])
    if min(args.documents, args.beam, *tokens) < 1:
        arguments.error("--documents, --tokens and --beam must be at least 1")
    others = args.arch if args.arch is not None else [a for a in published_rows() if a not in DEEP] if paper else SHORT
    architectures, tokens = list(dict.fromkeys([*DEEP, *others])), list(dict.fromkeys(tokens))
    check_lengths(arguments, architectures, max(tokens))
    results, failures = [], []
    for length in tokens:
        for arch in architectures:
            rounds = args.rounds if arch in DEEP or paper else 1
            size = Size(args.documents, length, args.beam)
            result, failure = attempt(functools.partial(compare, arch, size, rounds, args.device, args.precision))
            if failure:
                failures.append([arch, length, failure])
            else:
                results.append(result)
            keep(args.output, results, failures)
    tables = []
    for length in tokens:
        pair = [r for r in results if r["arch"] in DEEP and r["tokens"] == length]
        if len(pair) == 2:
            bounds = measure.table(["what", "measured", "", "bound", ""], goals(*pair, args.device))
            tables.append(f"## To be reached, {length} tokens\n\n{bounds}")
    tables.append(f"## Times and memory\n\n{rows_table(results)}")
    if failures:
        tables.append("## Not measured\n\n" + measure.table(["architecture", "tokens", "why"], failures))
    drawing = measure.draw(lambda: figure(results), args.output) if results else None
    measure.report("generation", args.device, results, tables, args.output, drawing, args.precision)


if __name__ == "__main__":
    main()
