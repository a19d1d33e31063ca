"""Tests of benchmarks/measure.py: precision, options, timing, memory, and runs out of memory."""

import shutil
import sys

import pytest
import torch


@pytest.fixture
def measure():
    import measure

    before = torch.get_float32_matmul_precision()
    yield measure
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def parse(measure, monkeypatch):
    def parse(*words, **options):
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *words])
        return measure.parse(measure.parser("A benchmark.", 1, **options))

    return parse


def test_default_precision_is_float32_on_cpu_and_bf16_on_gpu(parse, monkeypatch):
    assert parse("--device", "cpu").precision == "float32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert parse("--device", "cuda").precision == "bf16"
    assert parse("--device", "cuda", precisions=["float32", "fp16"]).precision == "float32"
    assert "precision" not in parse("--device", "cuda", precisions=())


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16", "fp16"])
def test_tf32_is_used_only_with_precision_tf32(parse, monkeypatch, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    parse("--device", "cuda", "--precision", precision)
    assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_tf32_and_fp16_are_refused_on_a_cpu(parse, capsys, precision):
    with pytest.raises(SystemExit):
        parse("--device", "cpu", "--precision", precision)
    assert f"--precision {precision}: a CPU has no such products" in capsys.readouterr().err


def test_output_that_is_a_file_is_refused(parse, tmp_path, capsys):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(SystemExit):
        parse("--device", "cpu", "--output", str(tmp_path / "mine"))
    assert "mine: it cannot be a folder (File exists)" in capsys.readouterr().err


@pytest.mark.parametrize("precision, dtype", [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_chosen_precision(measure, precision, dtype):
    x = torch.ones(2, 2)
    with measure.autocast("cpu", precision):
        assert (x @ x).dtype == dtype


def test_peak_flops_depend_on_the_precision(measure, monkeypatch):
    assert measure.peak("float32", "cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100-SXM4-40GB")
    assert [measure.peak(p) for p in measure.PRECISIONS] == [19.5e12, 156e12, 312e12, 312e12]


def test_machine_works_without_git(measure, monkeypatch, tmp_path):
    """Check that the machine is described without git; an error would lose the results when they are reported."""
    (tmp_path / "env").symlink_to(shutil.which("env"))
    monkeypatch.setenv("PATH", str(tmp_path))
    about = measure.machine("cpu")
    assert about["commit"] is None and about["torch"] == torch.__version__


GPU_MESSAGE = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which ..."


@pytest.mark.parametrize(
    "error, said",
    [
        (torch.cuda.OutOfMemoryError(GPU_MESSAGE), "out of memory, needs more than 20 GiB"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 512.00 MiB."), "needs more than 0.5 GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2147483648 bytes."), "2 GiB"),
        (RuntimeError("CUDA error: out of memory"), "out of memory"),
    ],
)
def test_alternate_skips_a_variant_that_runs_out_of_memory(measure, error, said):
    """Check running out of memory in the warm-up and later: no further try, and results computed from it say so."""
    tried = {"first": 0, "later": 0, "works": 0}

    def variant(name, fails_at):
        def call():
            tried[name] += 1
            if tried[name] == fails_at:
                raise error

        return call

    calls = {"first": variant("first", 1), "works": variant("works", 0), "later": variant("later", 3)}
    times = measure.alternate(calls, 4)
    assert tried == {"first": 1, "works": 5, "later": 3}
    assert times["works"].rounds == 4 and times["works"].failure == "" and times["works"].median >= 0
    for name in ("first", "later"):
        assert times[name].failure.endswith(said) and times[name].failure.startswith("out of memory")
        assert times[name].about() == times[name].failure
        ratio = times["works"].median / times[name].median
        assert measure.reached(ratio, 2) == measure.reached(ratio, 2, least=False) == "not measured"
        assert measure.plain({name: times[name]})[name]["median"] is None
    assert measure.table(["a"], [[times["first"].median]]).splitlines()[-1] == "| – |"


def test_errors_other_than_out_of_memory_are_raised(measure):
    def fail():
        raise RuntimeError("no kernel image is available")

    with pytest.raises(RuntimeError, match="no kernel image"):
        measure.alternate({"fails": fail}, 1)
    with pytest.raises(RuntimeError, match="no kernel image"):
        measure.peak_memory(fail)


def test_peak_memory_is_null_after_out_of_memory(measure):
    def fail():
        raise torch.cuda.OutOfMemoryError(GPU_MESSAGE)

    assert measure.plain(measure.peak_memory(fail)) is None
    assert 4000 <= measure.peak_memory(lambda: torch.ones(1000)) <= 4096


def test_summarize_computes_median_mean_and_sample_deviation(measure):
    times = measure.summarize([1.0, 2.0, 6.0])
    assert (times.median, times.mean) == (2, 3) and times.deviation == pytest.approx(7**0.5)
    assert times.about() == "3 ± 2.6" and measure.summarize([2.0]).about() == "2"


def test_reached_compares_with_a_lower_or_upper_bound(measure):
    assert [measure.reached(x, 2) for x in (1.9, 2, 2.1)] == ["no", "yes", "yes"]
    assert [measure.reached(x, 2, least=False) for x in (1.9, 2, 2.1)] == ["yes", "yes", "no"]


def test_draw_warns_and_returns_none_without_matplotlib(measure, monkeypatch, tmp_path, caplog):
    assert measure.draw(lambda: "drawn", tmp_path) == "drawn" and measure.draw(lambda: "drawn", None) is None
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(measure.importlib.util, "find_spec", lambda name: None)
    assert measure.draw(lambda: "drawn", tmp_path) is None and "no figure: matplotlib" in caplog.text


@pytest.mark.parametrize("device", ["gpu", "cuda:1", "mps"])
def test_unknown_device_is_refused_even_with_a_gpu(parse, monkeypatch, capsys, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SystemExit):
        parse("--device", device)
    assert f"invalid choice: '{device}'" in capsys.readouterr().err


def test_benchmark_for_cpu_only_refuses_a_gpu(parse, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert parse().device == "cuda" and parse(devices=("cpu",)).device == "cpu"
    with pytest.raises(SystemExit):
        parse("--device", "cuda", devices=("cpu",))
    assert "invalid choice: 'cuda'" in capsys.readouterr().err


def test_options_without_effect_are_not_offered(measure, monkeypatch, capsys):
    for word in ("--rounds=2", "--size=paper"):
        monkeypatch.setattr(sys, "argv", ["benchmark.py", "--device=cpu", word])
        with pytest.raises(SystemExit):
            measure.parse(measure.parser("A benchmark.", 0, sizes=()))
        assert f"unrecognized arguments: {word}" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--device=cpu"])
    args = measure.parse(measure.parser("A benchmark.", 0, sizes=()))
    assert (args.rounds, args.size) == (1, "reduced")


def test_peak_memory_is_measured_on_the_given_device(measure, monkeypatch):
    """Check that all values are read from the second GPU if a rank uses that one."""
    asked = []
    for name in ("synchronize", "reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device=None: asked.append(device) or 0)
    assert measure.peak_memory_of(lambda: None, "cuda:1") == 0
    assert asked == ["cuda:1"] * 5
