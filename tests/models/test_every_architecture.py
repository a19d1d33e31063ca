"""Tests that every kind of architecture trains two updates and generates with the stock commands' functions.

Architectures with a row in the paper are tested in tests/examples/test_recipes.py, with the commands of their recipes.
On a GPU every named architecture is tested here.
"""

import re

import pytest
import torch
from fairseq_cli import generate

from pyramidion_fairseq.checkpoints import load_checkpoint
from pyramidion_fairseq.models import PyramidionModel
from pyramidion_fairseq.models.architectures import ARCHITECTURES, PUBLISHED, fields_of
from pyramidion_fairseq.poolers import POOLERS
from pyramidion_fairseq.schedule import PoolingSchedule
from tests.helpers import architectures, needs
from tests.helpers.architectures import common, distinct, run, train_two_updates

corpus = architectures.corpus  # a fixture

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason=needs.A_GPU)
#: One of the architectures that differ only in lengths and block sizes, which test_architectures.py checks.
OTHERS = sorted(set(distinct([*PUBLISHED.values(), *sorted(ARCHITECTURES)])) - set(PUBLISHED.values()))
CASES = [(arch, "cpu") for arch in OTHERS] + [
    pytest.param(arch, "cuda", marks=NO_GPU) for arch in sorted(ARCHITECTURES)
]


@pytest.mark.parametrize("arch, device", CASES)
def test_architecture_trains_and_generates(monkeypatch, corpus, tmp_path, arch, device):
    path = train_two_updates(monkeypatch, corpus, tmp_path, arch, device)
    state = load_checkpoint(path)
    assert state["cfg"]["model"]["_name"] == arch and state["optimizer_history"][-1]["num_updates"] == 2
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    given = state["cfg"]["model"]
    assert given["pooling_schedule"] == fields_of(arch).get("pooling_schedule", "")
    layers = given["encoder_layers"]
    steps = PoolingSchedule.of(given["pooling_schedule"], given["max_source_positions"], layers).steps
    scored = {name.split(".")[2] for name in state["model"] if ".scorer." in name}
    trained = POOLERS.get(given["pooler"]).uses_scores and given["scorer"] in ("linear", "nonlinear")
    assert scored == ({str(layer) for layer, _ in steps} if trained else set())
    beam = ["--path", path, "--beam", 2, "--max-len-b", 4]
    out = run(monkeypatch, generate.cli_main, *common(corpus, device), *beam)
    assert sorted(re.findall(r"^D-(\d+)", out, re.M)) == ["0", "1", "2", "3"]


@pytest.mark.paper("power-start")
@pytest.mark.parametrize("arch", sorted(name for name in ARCHITECTURES if name.startswith("power_")))
def test_power_architectures_fine_tune_from_a_blockwise_checkpoint(monkeypatch, corpus, tmp_path, arch):
    """Check that weights of the block-wise model load strictly, as PoWER adds no parameters (Appendix C.1)."""
    blockwise = train_two_updates(monkeypatch, corpus, tmp_path / "blockwise", "blockwise_8k", "cpu")
    tuned = train_two_updates(
        monkeypatch, corpus, tmp_path / "power", arch, "cpu", "--finetune-from-model", blockwise, "--lr", 1e-9
    )
    before, after = load_checkpoint(blockwise)["model"], load_checkpoint(tuned)["model"]
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


RESET = ["--reset-optimizer", "--reset-dataloader", "--reset-meters", "--reset-lr-scheduler"]


def test_fine_tuning_adds_a_pointer_and_refuses_to_drop_one(monkeypatch, corpus, tmp_path, caplog):
    plain = train_two_updates(monkeypatch, corpus, tmp_path / "plain", "transpooler_2k_512", "cpu")
    before = load_checkpoint(plain)["model"]
    for flag, more in (("--finetune-from-model", []), ("--restore-file", RESET)):
        arguments = ["--pointer", flag, plain, *more, "--lr", 1e-9]
        folder = tmp_path / flag.strip("-")
        pointing = train_two_updates(monkeypatch, corpus, folder, "transpooler_2k_512", "cpu", *arguments)
        after = load_checkpoint(pointing)["model"]
        assert after.keys() - before.keys() == {"decoder.pointer.gate.weight", "decoder.pointer.gate.bias"}
        for name, tensor in before.items():
            torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)
        assert after["decoder.pointer.gate.bias"].tolist() == pytest.approx([0, -1, -1], abs=1e-6)
    caplog.clear()
    with pytest.raises(Exception, match="Cannot load model parameters"):  # raised by fairseq's trainer
        arguments = ["--finetune-from-model", pointing]
        train_two_updates(monkeypatch, corpus, tmp_path / "back", "transpooler_2k_512", "cpu", *arguments)
    (line,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("the checkpoint has a pointer, but this model does not: use --pointer")


@pytest.mark.paper("soft-hard")
def test_soft_checkpoint_generates_and_trains_with_the_hard_pooler(monkeypatch, corpus, tmp_path):
    """Check the same weights with one option changed, in generation and in further training."""
    path = train_two_updates(monkeypatch, corpus, tmp_path / "soft", "transpooler_8k_512", "cpu")
    state = load_checkpoint(path)
    assert any(".scorer." in name for name in state["model"])
    chosen = ["--path", path, "--beam", 2, "--max-len-b", 4]
    hard = ["--model-overrides", "{'pooler': 'hard_topk'}"]
    built = []
    build = PyramidionModel.build_model.__func__

    def watched(cls, *given):
        built.append(build(cls, *given))
        return built[-1]

    monkeypatch.setattr(PyramidionModel, "build_model", classmethod(watched))
    found = [
        sorted(
            re.findall(r"^D-(\d+)", run(monkeypatch, generate.cli_main, *common(corpus, "cpu"), *chosen, *way), re.M)
        )
        for way in ([], hard)
    ]
    assert found == [["0", "1", "2", "3"]] * 2
    soft_model, hard_model = built
    poolers = [type(model.encoder.poolings["2"].pooler).__name__ for model in built]
    assert poolers == ["SuccessiveHalvingPooler", "HardTopkPooler"]
    assert list(soft_model.state_dict()) == list(hard_model.state_dict()) == list(state["model"])
    for name, tensor in state["model"].items():
        assert torch.equal(hard_model.state_dict()[name].float(), tensor.float()), name
    tokens = torch.randint(4, 40, (1, 600), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        soft_out, hard_out = (m.encoder(tokens, None)["encoder_out"][0] for m in built)
    assert soft_out.shape == hard_out.shape and not torch.equal(soft_out, hard_out)
    goes_on = ["--finetune-from-model", path, "--pooler", "hard_topk"]
    path = train_two_updates(monkeypatch, corpus, tmp_path / "hard", "transpooler_8k_512", "cpu", *goes_on)
    assert load_checkpoint(path)["cfg"]["model"]["pooler"] == "hard_topk"
