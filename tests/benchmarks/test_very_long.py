"""Tests of the benchmarks of very long documents: cells measured in separate processes, kept, and tabulated."""

from argparse import Namespace

import pytest

from tests.helpers import forked


@pytest.fixture
def benchmarks():
    import long_documents
    import sequence_parallel
    import very_long

    return Namespace(long_documents=long_documents, sequence_parallel=sequence_parallel, very_long=very_long)


def arguments(output, longest):
    return Namespace(output=output, longest=longest, device="cpu", size="reduced", rounds=1, precision="float32")


def test_stopped_run_continues_and_keeps_its_cells(benchmarks, tmp_path, monkeypatch):
    """Check that a stopped run continues; its table has every length up to the longest, and exponents."""
    asked = []

    def measured(self, name, processes, given):
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(given)
        length = given["length"]
        return [{"seconds": length / 1000, "bytes": length**2, "resident": 0} for _ in range(processes)]

    monkeypatch.setattr(benchmarks.very_long.Measured, "_measure", measured)
    args = arguments(tmp_path, 16384)
    with pytest.raises(KeyboardInterrupt):
        benchmarks.long_documents.run(benchmarks.very_long.Measured(benchmarks.long_documents.BENCHMARK, args))
    first = asked[:]
    asked.clear()
    found, (table,) = benchmarks.long_documents.run(
        benchmarks.very_long.Measured(benchmarks.long_documents.BENCHMARK, args)
    )
    assert len(first) == 5 and len(asked) == 3 and not [given for given in asked if given in first]
    assert {given["length"] for given in first + asked} == {8192, 16384}
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    assert [row[0] for row in rows[::2]] == list(found) and {row[-1] for row in rows} == {"1", "2"}
    other = benchmarks.very_long.Measured(benchmarks.long_documents.BENCHMARK, arguments(tmp_path, 8192))
    other.args.precision = "bf16"
    asked.clear()
    other.get("8,192 tokens, blockwise, whole", length=8192)
    assert asked  # another precision is another cell
    other.args.rounds = 3
    other.get("8,192 tokens, blockwise, whole", length=8192)
    assert len(asked) == 2  # other rounds are another cell, too


def test_ranks_are_measured_in_connected_processes(benchmarks, monkeypatch, capfd):
    monkeypatch.setattr(benchmarks.very_long.subprocess, "Popen", forked.Popen)
    measured = benchmarks.very_long.Measured(benchmarks.sequence_parallel.BENCHMARK, arguments(None, 0))
    ranks = measured.get("two", 2, length=2048, ranks=2)
    assert len(ranks) == 2 and all(rank["sent"] > 0 and rank["seconds"] > 0 for rank in ranks)
    assert all(rank["resident"] > rank["bytes"] > 0 for rank in ranks)


@pytest.mark.parametrize("attention", ["blockwise", "lsg"])
def test_encoding_in_chunks_needs_less_memory(benchmarks, attention):
    args = arguments(None, 0)
    whole, chunked = (
        benchmarks.long_documents.measure_one(args, 4096, chunk, attention)["bytes"] for chunk in (0, 512)
    )
    assert chunked < 0.6 * whole


@pytest.mark.parametrize("name", ["long_documents", "sequence_parallel"])
def test_longest_below_every_document_is_refused_and_writes_nothing(benchmarks, tmp_path, monkeypatch, capsys, name):
    """Check that existing results are not replaced by an empty table."""
    (tmp_path / f"{name}.json").write_text("hours of work")
    line = [f"{name}.py", "--device=cpu", "--longest=100", f"--output={tmp_path}"]
    monkeypatch.setattr(benchmarks.very_long.sys, "argv", line)
    module = getattr(benchmarks, name)
    with pytest.raises(SystemExit):
        module.BENCHMARK.main(module.run)
    assert "--longest 100: the shortest document has" in capsys.readouterr().err
    assert (tmp_path / f"{name}.json").read_text() == "hours of work"


def test_too_few_gpus_are_refused(benchmarks, monkeypatch):
    monkeypatch.setattr(benchmarks.sequence_parallel.torch.cuda, "device_count", lambda: 1)
    args = arguments(None, 2**16)
    args.device = "cuda"
    measured = benchmarks.very_long.Measured(benchmarks.sequence_parallel.BENCHMARK, args)
    with pytest.raises(SystemExit, match="error: 4 ranks need a GPU each, 1 there"):
        benchmarks.sequence_parallel.run(measured)
