"""Tests of --autocast: bf16 on request, or with "auto" where the device multiplies it; a warning if it is slow."""

import logging
from argparse import Namespace

import pytest
import torch
from torch import nn

from pyramidion_fairseq.compat import run_log
from pyramidion_fairseq.utils.bf16 import autocast_criterion, multiplies_bf16, warn_of_slow_bf16


@pytest.fixture
def processor(monkeypatch):
    """Return a function that sets whether the processor has instructions for bf16; no warning was given before."""
    warn_of_slow_bf16.cache_clear()

    def say(native):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)

    return say


def dtype_of_products(autocast):
    """Return the type of a product inside the task's criterion."""
    weight = torch.ones(2, 2)
    criterion = autocast_criterion(lambda model, sample: (weight @ weight).dtype, autocast)
    return criterion(None, {"net_input": {"src_tokens": torch.ones(1, 2).long()}})


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("autocast", ["none", "bf16", "auto"])
def test_autocast_criterion_uses_bf16_on_request_or_where_it_is_native(processor, native, autocast):
    processor(native)
    low = autocast == "bf16" or (autocast == "auto" and native)
    assert dtype_of_products(autocast) == (torch.bfloat16 if low else torch.float32)


def test_multiplies_bf16_is_false_for_an_unknown_device(processor):
    processor(True)
    assert multiplies_bf16(torch.device("cpu")) and not multiplies_bf16(torch.device("meta"))


@pytest.mark.parametrize(
    "autocast, bf16, native, warned",
    [
        ("bf16", False, False, "--autocast bf16"),
        ("bf16", False, True, None),
        ("auto", False, False, None),
        ("none", True, False, "--bf16"),
        ("none", True, True, None),
        ("none", False, False, None),
    ],
)
def test_slow_bf16_gives_a_warning_before_training(processor, monkeypatch, caplog, autocast, bf16, native, warned):
    processor(native)
    monkeypatch.setattr(run_log, "summary", lambda *args: [])
    cfg = Namespace(
        task=Namespace(_name="long_document_summarization", autocast=autocast), common=Namespace(bf16=bf16)
    )
    trainer = Namespace(cfg=cfg, is_data_parallel_master=True, device=torch.device("cpu"))
    with caplog.at_level(logging.WARNING, "pyramidion_fairseq"):
        run_log._log_summary_after(lambda *args: None)(trainer, cfg, None, nn.Linear(1, 1))
    assert [message.split(":")[0] for message in caplog.messages] == ([warned] if warned else [])


@pytest.mark.parametrize("autocast, native, warned", [("bf16", False, 1), ("bf16", True, 0), ("auto", False, 0)])
def test_slow_bf16_gives_one_warning_for_all_batches(processor, caplog, autocast, native, warned):
    processor(native)
    with caplog.at_level(logging.WARNING, "pyramidion_fairseq"):
        dtype_of_products(autocast)
        dtype_of_products(autocast)
    assert [message.split(":")[0] for message in caplog.messages] == ["--autocast bf16"] * warned
