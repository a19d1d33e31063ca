"""What tests compose of options in a short way is what Hydra composes: every value, its type and what is refused."""

from argparse import Namespace
from dataclasses import dataclass

import pytest
from fairseq import options
from fairseq.dataclass import utils
from fairseq.optim.adam import FairseqAdamConfig
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from tests.helpers import composing

TASK = ["data", "--task", "long_document_summarization"]
TRAIN = ["--arch", "deeppyramidion", "--lr", "0.1,0.2", "--optimizer", "adam", "--adam-betas", "(0.8, 0.9)"]
LINES = [
    (options.get_training_parser, [*TASK, *TRAIN, "--save-dir", "it's, {a} [b]: $c=d"]),
    (options.get_training_parser, [*TASK, *TRAIN, "--criterion", "label_smoothed_cross_entropy", "--patience", "3"]),
    (options.get_generation_parser, [*TASK, "--path", "a.pt:b.pt", "--beam", "3", "--lenpen", "1e-3"]),
]


def composed(args: Namespace, monkeypatch: pytest.MonkeyPatch) -> list[DictConfig]:
    """What fairseq makes of the arguments: twice the short way, and by Hydra alone."""
    found = []
    for compose in (composing.compose, composing.compose, composing.composed_by_hydra):
        monkeypatch.setattr(utils, "compose", compose)
        found.append(utils.convert_namespace_to_omegaconf(args))
    return found


@pytest.mark.parametrize("parser, line", LINES)
def test_a_command_line_is_composed_as_by_hydra(parser, line, monkeypatch):
    args = options.parse_args_and_arch(parser(), line)
    first, second, by_hydra = (OmegaConf.to_yaml(cfg) for cfg in composed(args, monkeypatch))
    assert first == second == by_hydra and "user_dir" in by_hydra


def test_nothing_is_shared_between_what_is_composed(monkeypatch):
    first, second, _ = composed(options.parse_args_and_arch(LINES[0][0](), LINES[0][1]), monkeypatch)
    first.optimization.lr.append(7.0)
    first.task._name = "another"
    assert second.optimization.lr == [0.1, 0.2] and second.task._name == TASK[-1]


@pytest.mark.parametrize("change", [{"max_update": "['a']"}, {"ddp_backend": "none"}, {"seed": 1.5}])
def test_what_hydra_refuses_is_refused_in_its_words(change, monkeypatch):
    args = options.parse_args_and_arch(LINES[0][0](), LINES[0][1])
    vars(args).update(change)
    refused = []
    for compose in (composing.compose, composing.composed_by_hydra):
        monkeypatch.setattr(utils, "compose", compose)
        try:
            refused.append(OmegaConf.to_yaml(utils.convert_namespace_to_omegaconf(args)))
        except (ConfigCompositionException, ValueError) as error:
            refused.append(f"{type(error)} {error}")
    assert refused[0] == refused[1]


def test_what_is_registered_later_is_composed(monkeypatch):
    args = options.parse_args_and_arch(LINES[0][0](), LINES[0][1])
    (before, *_), store = composed(args, monkeypatch), ConfigStore.instance()
    node = store.repo["optimizer"]["adam.yaml"].node
    own = dataclass(type("Own", (FairseqAdamConfig,), {"__annotations__": {"width": int}, "width": 3}))
    try:
        store.store(group="optimizer", name="adam", node=own, provider="fairseq")
        after = composed(args, monkeypatch)
    finally:
        store.store(group="optimizer", name="adam", node=node, provider="fairseq")
    assert [cfg.optimizer.width for cfg in after] == [3, 3, 3] and "width" not in before.optimizer
