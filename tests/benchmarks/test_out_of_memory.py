"""Tests of benchmarks in which a row runs out of memory: the row says so, and the others are measured."""

import json
import sys
from argparse import Namespace

import pytest
import torch

FULL = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which ..."
SAID = "out of memory, needs more than 20 GiB"


@pytest.fixture
def benchmarks():
    import generation
    import measure
    import memory
    import throughput
    import training
    import workload

    return Namespace(**{m.__name__: m for m in (generation, measure, memory, throughput, training, workload)})


def full(*args, **kwargs):
    raise torch.cuda.OutOfMemoryError(FULL)


@pytest.fixture
def tiny(benchmarks):
    options = benchmarks.workload.divided("deeppyramidion", 4, dropout=0.0, encoder_layers=3, decoder_layers=1)
    options |= {"max_source_positions": 64, "block_size": 16, "pooling_schedule": "1:16"}
    options |= dict.fromkeys(("attention_dropout", "activation_dropout"), 0.0)
    for side in ("encoder_", "decoder_"):
        options |= {side + "embed_dim": 16, side + "ffn_embed_dim": 32, side + "attention_heads": 1}
    return benchmarks.workload.build(options, "cpu", 50)


def test_fitting_step_splits_documents_that_do_not_fit_into_passes(benchmarks, tiny, monkeypatch):
    """Check, with 4 of 16 documents fitting, that the step takes 4 passes and has the gradient of all documents."""
    passes, batches, forward = [], benchmarks.workload.batch, tiny.forward

    def limited(src_tokens, *args, **kwargs):
        passes.append(len(src_tokens))
        return full() if len(src_tokens) > 4 else forward(src_tokens, *args, **kwargs)

    def as_if_on_a_gpu(model, documents, length, target, padded_to=0):
        torch.manual_seed(0)
        one = batches(model, 1, length, target, padded_to)
        return {
            key: value * documents if isinstance(value, list) else value.expand(documents, *value.shape[1:])
            for key, value in one.items()
        }

    monkeypatch.setattr(tiny, "forward", limited)
    monkeypatch.setattr(benchmarks.workload, "batch", as_if_on_a_gpu)
    monkeypatch.setattr(benchmarks.workload, "device_of", lambda model: "cuda")
    monkeypatch.setattr(benchmarks.measure, "peak_memory_of", lambda call, device: call() or 3 * 2**30)
    step = benchmarks.workload.fitting_step(tiny, 16, 64, "float32", target=5)
    assert passes == [16, 8, 4] and (step.documents, step.passes) == (16, 4)
    assert step.batch() == "4 x 4 (16 at once: about 12 GiB)"
    passes.clear()
    step.call()
    assert passes == [4, 4, 4, 4]
    gradients = {name: p.grad.clone() for name, p in tiny.named_parameters()}
    monkeypatch.setattr(tiny, "forward", forward)
    benchmarks.workload.training_step(tiny, as_if_on_a_gpu(tiny, 16, 64, 5), "float32")()
    for name, p in tiny.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-4, atol=1e-6)


def test_training_row_says_out_of_memory_if_one_document_does_not_fit(benchmarks, tiny, monkeypatch):
    monkeypatch.setattr(benchmarks.workload, "device_of", lambda model: "cuda")
    monkeypatch.setattr(benchmarks.measure, "peak_memory_of", lambda call, device: call())
    monkeypatch.setattr(tiny, "forward", full)
    step = benchmarks.workload.fitting_step(tiny, 4, 64, "float32", target=5)
    assert step.passes == 4
    times = benchmarks.measure.alternate({"step": step.call}, 1)
    text = benchmarks.training.times_table("Steps", times, {"step": step.batch()})
    assert SAID in text and "4 x 1 (4 at once: " + SAID in text


def test_generation_continues_with_the_next_architecture(benchmarks, monkeypatch, tmp_path, capsys):
    generation = benchmarks.generation

    def compare(arch, size, rounds, device, precision):
        if arch == "vanilla_2k":
            full()
        times = benchmarks.measure.summarize([1.0, 2.0])._asdict()
        if arch == "deep_blockwise":
            times = benchmarks.measure.alternate({"": full}, 1)[""]._asdict()
        return {
            **{"arch": arch, "states": 512, **size._asdict(), "same_tokens": True, "encode_seconds_per_document": 1.0},
            **{"seconds": {"stock": times, "ours": times}, "peak_bytes": {"stock": 2.0, "ours": 1.0}},
            "published": None,
        }

    monkeypatch.setattr(generation, "compare", compare)
    line = ["generation.py", "--device=cpu", "--arch", "vanilla_2k", "blockwise_2k", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", line)
    generation.main()
    text = capsys.readouterr().out
    assert (
        f"| vanilla_2k   | 32     | {SAID}" in text and "1.5 ± 0.71" in text and SAID in text.split("Not measured")[0]
    )
    assert "not measured" in text and "nan" not in text
    written = json.loads((tmp_path / "generation.json").read_text())["results"]
    assert [result["arch"] for result in written] == ["deeppyramidion", "deep_blockwise", "blockwise_2k"]
    assert json.loads((tmp_path / "generation.so_far.json").read_text())["failures"] == [["vanilla_2k", 32, SAID]]


def test_generation_measures_ours_if_the_stock_decoder_does_not_fit(benchmarks, monkeypatch):
    generation = benchmarks.generation
    of = generation.generator
    monkeypatch.setattr(generation, "VOCABULARY", 50)
    monkeypatch.setattr(generation, "generator", lambda *args: full if args[3] else of(*args))
    monkeypatch.setattr(generation, "fields_of", lambda arch: {**TINY, "pooling_schedule": "1:16"})
    found = generation.compare("deeppyramidion", generation.Size(2, 4, 2), 2, "cpu", "float32")
    assert found["seconds"]["stock"]["failure"] == SAID and found["seconds"]["ours"]["median"] > 0
    assert found["peak_bytes"]["ours"] > 0 and benchmarks.measure.plain(found["peak_bytes"]["stock"]) is None
    words = [row[-1] for row in generation.goals(found, found, "cpu")]
    assert set(words) == {"not measured"}


TINY = {"max_source_positions": 64, "block_size": 16, "encoder_layers": 2, "decoder_layers": 1} | {
    side + name: value
    for side in ("encoder_", "decoder_")
    for name, value in (("embed_dim", 16), ("ffn_embed_dim", 32), ("attention_heads", 2))
}


def test_memory_table_shows_lengths_that_do_not_fit(benchmarks, monkeypatch):
    memory = benchmarks.memory
    monkeypatch.setattr(memory, "LENGTHS", [2048, 3072, 4096])
    monkeypatch.setattr(memory, "ARCHITECTURES", {"deeppyramidion": ("deeppyramidion", 4096)})
    peak_memory_of = benchmarks.measure.peak_memory_of
    calls = []

    def limited(call, device):
        calls.append(call)
        return full() if len(calls) == 6 else peak_memory_of(call, device)  # encoding of the third length

    monkeypatch.setattr(benchmarks.measure, "peak_memory_of", limited)
    args = Namespace(size="reduced", device="cpu", precision="float32", rounds=1)
    results, (peaks, growth) = memory.run(args)
    found = results["peaks"]["deeppyramidion"]
    assert found[4096]["encoding"] == SAID and SAID in peaks
    assert found[4096]["training"] > found[2048]["training"] > found[2048]["encoding"] > 0
    (line,) = (line for line in growth.splitlines() if line.startswith("| memory, encoding"))
    assert "not measured" in line and "nan" not in line
    assert memory.figure(results)


def test_throughput_reports_a_command_out_of_memory(benchmarks, monkeypatch, tmp_path):
    throughput = benchmarks.throughput

    def done(*args, **kwargs):
        return Namespace(returncode=1, stderr=f"Traceback\ntorch.OutOfMemoryError: {FULL}\nand more\n", stdout="")

    monkeypatch.setattr(throughput.subprocess, "run", done)
    monkeypatch.setattr(throughput, "command", lambda *args: [])
    args = Namespace(device="cpu", precision="float32")
    _, failure = throughput.attempt(lambda: throughput.run(tmp_path, "deeppyramidion", args))
    assert failure == SAID
    monkeypatch.setattr(
        throughput.subprocess, "run", lambda *a, **k: Namespace(returncode=1, stderr="broken", stdout="")
    )
    with pytest.raises(SystemExit, match="fairseq-generate failed for deeppyramidion: broken"):
        throughput.run(tmp_path, "deeppyramidion", args)


def test_compare_works_without_itertools_pairwise(benchmarks, monkeypatch):
    """Check the comparison as in Python 3.9, which has no itertools.pairwise."""
    generation = benchmarks.generation
    monkeypatch.delattr("itertools.pairwise", raising=False)
    monkeypatch.setattr(generation, "VOCABULARY", 50)
    monkeypatch.setattr(generation, "fields_of", lambda arch: {**TINY, "pooling_schedule": "1:16"})
    assert generation.compare("deeppyramidion", generation.Size(2, 4, 2), 1, "cpu", "float32")["same_tokens"] is True


def test_generation_measures_duplicates_once_and_refuses_too_many_tokens(benchmarks, monkeypatch, capsys):
    generation, asked = benchmarks.generation, []

    def compare(arch, size, *_):
        asked.append((arch, size.tokens))
        full()

    monkeypatch.setattr(generation, "compare", compare)
    line = ["generation.py", "--device=cpu", "--arch", "deeppyramidion", "vanilla_2k", "--tokens"]
    monkeypatch.setattr(sys, "argv", [*line, "4", "4"])
    generation.main()
    assert asked == [("deeppyramidion", 4), ("deep_blockwise", 4), ("vanilla_2k", 4)]
    monkeypatch.setattr(sys, "argv", [*line, "5000"])
    with pytest.raises(SystemExit):
        generation.main()
    assert "--tokens 5000: deeppyramidion writes at most 1024" in capsys.readouterr().err
