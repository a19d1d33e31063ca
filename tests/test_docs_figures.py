"""Tests that figures on the pages are those of the committed results, rounded once."""

import itertools
import json
import re
import statistics

import pytest

from tests.helpers.paths import ROOT

RESULTS = ROOT / "benchmarks" / "results"
LENGTHS = ("8192", "65536", "131072", "262144", "524288", "1048576")
ROW = "pyramidion_8k_8k_2k_512"
POINTER = f"{ROW}_pointer"
#: First cell of a line of docs/results.md -> the row in the results of the pointer.
POINTER_ROWS = {
    ROW: ROW,
    POINTER: POINTER,
    "... `--pointer-context 0`": f"{POINTER}+pointer_context=0",
    "... `--pointer-detach-weights`": f"{POINTER}+pointer_detach_weights",
}


def results(path):
    """Return the results of a benchmark, given the path of its JSON."""
    found = json.loads((RESULTS / path).read_text("utf-8"))
    return found.get("results", found)


def lines(page, heading):
    """Return the cells of the table that follows a text of a page, without its first two lines."""
    text = (ROOT / page).read_text("utf-8")
    table = re.search(r"(?:^\|.*\n)+", text[text.index(heading) :], re.M)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def says(cell, value):
    """Return whether a cell has the value, rounded to as many digits as the cell has."""
    number = cell.replace(",", "")
    places = len(number.partition(".")[2])
    return abs(float(number) - value) <= 0.5 * 10**-places + 1e-9


def test_says_detects_a_value_that_was_rounded_twice():
    assert says("2.0", 2.047) and not says("2.1", 2.047)  # rounded by way of 2.05
    assert says("1,024", 1023.6) and not says("1,024", 1024.6)


def test_performance_page_quotes_the_results_of_transformers_models():
    found, seen = results("peers_cpu/peers.json"), 0
    for name, *cells in lines("docs/performance.md", "## Comparison with models of transformers"):
        model = found["deeppyramidion" if name == "DeepPyramidion" else name]
        work = ("training", "encoding", "generation")
        own = "deeppyramidion" if name == "DeepPyramidion" else name
        seconds = [model["times"][kind][own]["median"] for kind in work]
        beside = [model["times"][kind]["deeppyramidion"]["median"] for kind in work]
        ratios = [ours / theirs for ours, theirs in zip(seconds, beside)]
        peaks = [model["memory"][kind] / 2**30 for kind in work]
        for cell, value in zip([*cells[:3], *cells[3].split(", "), *cells[4].split(", ")], seconds + ratios + peaks):
            assert says(cell, value), (name, cell, value)
            seen += 1
    assert seen == 45


@pytest.mark.parametrize("heading, what, unit", [("| MiB above", "bytes", 2**20), ("| seconds |", "seconds", 1)])
def test_long_documents_page_quotes_the_results(heading, what, unit):
    found = results("long_documents_cpu/long_documents.json")
    names = {"whole documents": "whole", "chunks of 8,192": "chunks of 8,192"}
    for way, *cells in lines("docs/long-documents.md", heading):
        kind, _, read = way.partition(", ")
        of = found[f"{kind.lower()}, {names[read]}"]
        values = [of[length][what] / unit for length in LENGTHS]
        assert all(says(cell, value) for cell, value in zip(cells, values)), (way, cells, values)


def test_long_documents_page_quotes_the_results_of_several_ranks():
    found = results("sequence_parallel_cpu/sequence_parallel.json")
    for tokens, ranks, *cells in lines("docs/long-documents.md", "| tokens | ranks |"):
        values = []
        for way in ("whole parts", "chunks of 8,192"):
            one, many = (found[f"{tokens} tokens, {way}, ranks: {count}"] for count in ("1", ranks))
            peaks = [max(rank["bytes"] for rank in cell) for cell in (one, many)]
            values += [peaks[1] / 2**20, peaks[0] / peaks[1]]
        values.append(max(rank["sent"] for rank in many) / 2**20)
        assert all(says(cell, value) for cell, value in zip(cells, values)), (tokens, ranks, cells, values)


@pytest.mark.parametrize("table", ["cores (F1", "Time and memory\n"])
def test_results_page_has_the_tables_of_the_small_scale(table):
    measured = lines("benchmarks/results/reproduce_cpu/results.md", table)
    shown = lines("docs/results.md", table)
    assert [line for line in shown if line[0] != "lead baseline"] == [line for line in measured if line[0] != "lead"]


def scores(stages):
    """Return {"mean", "low", "high"} of ROUGE-1, -2, -Lsum and of words not in the document, of one seed."""
    f1 = stages["rouge"]["f1"]
    return [*(f1[name] for name in ("rouge1", "rouge2", "rougeLsum")), stages["rouge"]["more"]["novel_1"]]


def says_seeds(cells, seeds):
    """Return whether cells have bits per token and :func:`scores`.

    Cells have mean and deviation over several seeds, or the intervals of one.
    """
    bits = [stages["validate"]["bits_per_token"] for stages in seeds]
    found = list(zip(*map(scores, seeds)))
    if len(seeds) == 1:
        pairs = [(cells[0], bits[0])]
        for cell, (score,) in zip(cells[1:], found):
            numbers = re.fullmatch(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", cell).groups()
            pairs += zip(numbers, (score["mean"], score["low"], score["high"]))
    else:
        pairs = []
        for cell, values in zip(cells, [bits, *([score["mean"] for score in one] for one in found)]):
            mean, deviation = cell.split(" ± ")
            pairs += [(mean, statistics.mean(values)), (deviation, statistics.stdev(values))]
    return all(says(*pair) for pair in pairs)


def test_results_page_quotes_the_results_of_the_pointer():
    found = results("pointer_cpu/results.json")["rows"]
    table = {name: cells for name, *cells in lines("docs/results.md", "### With a pointer")}
    for name, row in POINTER_ROWS.items():
        assert says_seeds(table[name], list(found[row]["seeds"].values())), name


def test_results_page_and_readme_quote_the_results_of_3000_updates():
    found = results("reproduce_long_cpu/results.json")["rows"]
    table = lines("docs/results.md", "### After 3,000 updates")
    assert {row for row, *_ in table} == {*found, "lead baseline"} - {"lead"}
    for row, count, *cells in table:
        if row != "lead baseline":
            seeds = list(found[row]["seeds"].values())
            assert int(count) == len(seeds) and says_seeds(cells, seeds), row
    told = re.search("what rates the tokens.*", (ROOT / "README.md").read_text("utf-8"))[0]
    cells = re.findall(r"\d\.\d\d", told)
    rows = [f"transpooler_2k_512{scorer}" for scorer in ("", "_mean_window", "_random", "_index")] + ["blockwise_2k"]
    assert len(cells) == len(rows)
    for cell, row in zip(cells, rows):
        seeds = found[f"{row}+pointer"]["seeds"].values()
        assert says(cell, statistics.mean(stages["validate"]["bits_per_token"] for stages in seeds)), row
    told = re.search("four times as many tokens.*", (ROOT / "README.md").read_text("utf-8"))[0]
    cells = re.findall(r"\d+\.\d+", told)
    for row, *pair in zip(("transpooler_8k_2k", "blockwise_8k", "blockwise_2k"), cells[::2], cells[1::2]):
        seeds = found[f"{row}+pointer"]["seeds"].values()
        bits, rouge = zip(*((s["validate"]["bits_per_token"], s["rouge"]["f1"]["rouge1"]["mean"]) for s in seeds))
        assert len(cells) == 6 and all(map(says, pair, (statistics.mean(bits), statistics.mean(rouge)))), row


def test_results_page_quotes_the_lengths_of_lead_baseline_and_summaries():
    found = results("pointer_cpu/results.json")["rows"]
    (lead,) = found["lead"]["seeds"].values()
    page = " ".join((ROOT / "docs/results.md").read_text("utf-8").split())
    assert says(re.search(r"lead baseline, (\d+) words", page)[1], lead["rouge"]["more"]["words"]["mean"])
    told = re.search(r"equally many words, (\d+), (\d+) and (\d+), for all 300", page).groups()
    for cell, stages in zip(told, found[ROW]["seeds"].values(), strict=True):
        words = stages["rouge"]["more"]["words"]
        assert words["low"] == words["high"] and says(cell, words["mean"])


def test_pages_quote_the_ranges_over_seeds_of_3000_updates():
    found = results("reproduce_long_cpu/results.json")["rows"]
    rouge = {
        row: [stages["rouge"]["f1"]["rouge1"]["mean"] for stages in kinds["seeds"].values()]
        for row, kinds in found.items()
    }
    page = " ".join((ROOT / "docs/results.md").read_text("utf-8").split())
    told = re.search(r"seeds of a row at 512 tokens are up to ([\d.]+) points of ROUGE-1 apart", page)[1]
    short = [scores for row, scores in rouge.items() if row.startswith(("blockwise_2k", "transpooler_2k"))]
    assert says(told, max(max(scores) - min(scores) for scores in short))
    pairs = itertools.product(rouge["transpooler_8k_2k+pointer"], rouge["transpooler_2k_512+pointer"])
    gains = [long - short for long, short in pairs]
    told = re.search(r"(\d+) to (\d+) words where .*?, (\d+) to (\d+) in .*?, and (\d+) to (\d+) in", page).groups()
    lengths = [[], [], []]
    for row in found.keys() - {"lead"}:
        words = [stages["rouge"]["more"]["words"]["mean"] for stages in found[row]["seeds"].values()]
        lengths[2 if "8k" in row else 0 if "random" in row or "index" in row else 1] += words
    for words, low, high in zip(lengths, told[::2], told[1::2], strict=True):
        assert says(low, min(words)) and says(high, max(words))
    told = (ROOT / "docs/paper.md").read_text("utf-8")
    words = r"Transpooler ([\d.]+) to ([\d.]+) with four times .*?, ([\d.]+) to ([\d.]+) with the same one"
    numbers = re.search(words, told)
    pairs = itertools.product(rouge["transpooler_8k_512+pointer"], rouge["transpooler_2k_512+pointer"])
    same = [long - short for long, short in pairs]
    assert all(map(says, numbers.groups(), (min(gains), max(gains), min(same), max(same))))


@pytest.mark.parametrize("family", ["bart", "mbart"])
def test_pretrained_page_quotes_the_losses_of_converted_models(family):
    found = results(f"{family}_long_cpu/results.json")
    values = [dict(found[start]["valid"])[update] for start in ("converted", "scratch") for update in (20, 200)]
    (cells,) = (cells for name, *cells in lines("docs/pretrained.md", "| family | converted") if name == f"`{family}`")
    assert all(says(cell, value) for cell, value in zip(cells, values)), (cells, values)


def test_readme_quotes_the_speed_of_generation_with_and_without_encoding():
    ours, theirs = results("generation_cpu/generation.json")
    encoding = [8 * row["encode_seconds_per_document"] for row in (ours, theirs)]
    decoding = [ours["seconds"]["ours"]["median"], theirs["seconds"]["stock"]["median"]]
    page = (ROOT / "README.md").read_text("utf-8")
    without, whole = re.search(r"([\d.]+) times as fast; ([\d.]+) times with encoding", page).groups()
    assert says(without, decoding[1] / decoding[0])
    assert says(whole, (encoding[1] + decoding[1]) / (encoding[0] + decoding[0]))


def test_classification_page_quotes_the_results():
    found = {row["row"]: row for row in results("classification_cpu/classification.json")}
    trained = [
        json.loads(line)
        for line in (RESULTS / "classification_cpu/classification.jsonl").read_text("utf-8").splitlines()
    ]
    table = lines("docs/classification.md", "## How much can be pooled away")
    assert [cells[0] for cells in table] == list(found)
    for name, mean, seeds, update, document, faster in table:
        row = found[name]
        accuracies = [run["accuracy"] for run in trained if run["row"] == name]
        assert says(mean, 100 * statistics.mean(accuracies))
        assert all(says(cell, 100 * value) for cell, value in zip(seeds.split(", "), accuracies, strict=True))
        assert says(update, row["update"]) and says(document, row["document"])
        assert says(faster, found["LSG"]["document"] / row["document"])


def test_explaining_page_quotes_the_results_of_attribution():
    found = results("attribution_cpu/attribution.json")
    methods = found.get("methods", found)
    table = lines("docs/explaining.md", "nats, with 95% intervals over documents")
    assert [cells[0].strip("`") for cells in table] == list(methods)
    for name, passes, _, *drops in table:
        entry = methods[name.strip("`")]
        assert says(passes, entry["passes"])
        for cell, drop in zip(drops, entry["drop"], strict=True):
            values = re.findall(r"[-\d.]+", cell)
            assert all(says(v, drop[part]) for v, part in zip(values, ("mean", "low", "high"), strict=True)), name
