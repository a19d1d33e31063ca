"""Tests of the precision in which models are loaded to summarise."""

import logging

import pytest
import torch

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import load_summarizer
from pyramidion_fairseq.inference.precision import choose_dtype
from tests.helpers.summaries import article, write_checkpoint, write_sentencepiece

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHORT = {"min_len": 3, "max_len_b": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    write_sentencepiece(path)
    write_checkpoint(path, pooling_schedule="1:12,2:5")
    return str(path)


@pytest.mark.parametrize("bf16, amx", [(True, False), (False, True), (False, False)])
def test_dtype_auto_is_bfloat16_on_cpus_that_support_it_else_float32(monkeypatch, caplog, bf16, amx):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    with caplog.at_level(logging.INFO, "pyramidion_fairseq"):
        chosen = choose_dtype("auto", CPU)
    assert chosen == (torch.bfloat16 if bf16 or amx else torch.float32)
    assert caplog.messages == [f"dtype auto: {str(chosen)[6:]}, the fastest on this cpu"]


@pytest.mark.parametrize("native", [True, False])
def test_dtype_auto_is_bfloat16_on_gpus_that_support_it_else_float16(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    assert choose_dtype("auto", CUDA) == (torch.bfloat16 if native else torch.float16)


def test_dtypes_are_accepted_by_name_and_invalid_ones_are_refused(folder):
    assert choose_dtype(torch.bfloat16, CPU) == torch.bfloat16
    assert choose_dtype("float16", CUDA) == torch.float16 and choose_dtype("float32", CPU) == torch.float32
    with pytest.raises(PyramidionError, match="float16 is for GPUs: take bfloat16 or float32"):
        load_summarizer(folder, device="cpu", dtype="float16")
    with pytest.raises(PyramidionError, match="dtype 'half': it is one of auto, float32"):
        load_summarizer(folder, device="cpu", dtype="half")


def test_bfloat16_model_gives_the_tournament_float32_scores(folder, monkeypatch):
    hub = load_summarizer(folder, device="cpu", dtype="bfloat16")
    assert {p.dtype for p in hub.parameters()} == {torch.bfloat16}
    from pyramidion_fairseq.functional.topk import successive_halving

    seen, real = [], successive_halving.tournament
    monkeypatch.setattr(
        successive_halving, "tournament", lambda scores, *rest: seen.append(scores) or real(scores, *rest)
    )
    (summary,) = hub.summarize([article(3)], with_provenance=True, **SHORT)
    assert seen and {scores.dtype for scores in seen} == {torch.float32}
    explanation = summary.explain()
    assert len(explanation.summary.words) >= 1 and explanation.to_dict()["stages"]


def test_fp16_on_a_cpu_warns_and_uses_float32(folder, caplog):
    with caplog.at_level(logging.WARNING, "pyramidion_fairseq"):
        hub = load_summarizer(folder, device="cpu", fp16=True)
    assert {p.dtype for p in hub.parameters()} == {torch.float32}
    assert "--fp16 is for GPUs: float32 on this cpu" in caplog.messages
