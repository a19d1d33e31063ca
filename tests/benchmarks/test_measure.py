"""benchmarks/measure.py: what a benchmark computes in, and what becomes of options that mean nothing."""

import sys

import pytest
import torch

from tests.helpers.paths import ROOT


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import measure

    for name, value in measure.ALLOCATOR.items():
        monkeypatch.setenv(name, value)  # it starts again otherwise
    before = torch.get_float32_matmul_precision()
    yield measure
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def parse(measure, monkeypatch):
    def parse(*words, **options):
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *words])
        return measure.parse(measure.parser("A benchmark.", 1, **options))

    return parse


def test_products_are_float32_on_a_cpu_and_bf16_on_a_gpu(parse, monkeypatch):
    assert parse("--device", "cpu").precision == "float32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert parse("--device", "cuda").precision == "bf16"
    assert parse("--device", "cuda", precisions=["float32", "fp16"]).precision == "float32"
    assert "precision" not in parse("--device", "cuda", precisions=())


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16", "fp16"])
def test_tf32_is_used_where_it_is_asked_for_alone(parse, monkeypatch, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    parse("--device", "cuda", "--precision", precision)
    assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_what_a_cpu_does_not_have_is_refused(parse, capsys, precision):
    with pytest.raises(SystemExit):
        parse("--device", "cpu", "--precision", precision)
    assert f"--precision {precision}: a CPU has no such products" in capsys.readouterr().err


@pytest.mark.parametrize("precision, dtype", [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_training_computes_in_that_precision(measure, precision, dtype):
    x = torch.ones(2, 2)
    with measure.autocast("cpu", precision):
        assert (x @ x).dtype == dtype


def test_the_peak_is_that_of_the_precision(measure, monkeypatch):
    assert measure.peak("float32", "cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100-SXM4-40GB")
    assert [measure.peak(p) for p in measure.PRECISIONS] == [19.5e12, 156e12, 312e12, 312e12]
