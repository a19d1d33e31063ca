"""Tests that the tests' fast composing gives what Hydra gives: values, their types and errors."""

from argparse import Namespace
from dataclasses import dataclass

import pytest
from fairseq import options
from fairseq.dataclass import utils
from fairseq.optim.adam import FairseqAdamConfig
from hydra._internal import utils as hydra_utils
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from tests.helpers import composing

TASK = ["data", "--task", "long_document_summarization"]
TRAIN = ["--arch", "deeppyramidion", "--lr", "0.1,0.2", "--optimizer", "adam", "--adam-betas", "(0.8, 0.9)"]
LINES = [
    (options.get_training_parser, [*TASK, *TRAIN, "--save-dir", "it's, {a} [b]: $c=d"]),
    (options.get_training_parser, [*TASK, *TRAIN, "--criterion", "label_smoothed_cross_entropy", "--patience", "3"]),
    (
        options.get_training_parser,
        [*TASK, "--arch", "lsh_512", "--optimizer", "sgd", "--lr-scheduler", "inverse_sqrt"],
    ),
    (options.get_generation_parser, [*TASK, "--path", "a.pt:b.pt", "--beam", "3", "--lenpen", "1e-3"]),
]


def types(cfg: DictConfig) -> dict:
    """Return the types of every option's node."""
    found = {}
    for name in cfg:
        node = cfg._get_node(name)
        about = node._metadata
        found[name] = (type(node), about.ref_type, about.object_type, about.optional, about.key)
        if isinstance(node, DictConfig) and not node._is_none():
            found[name] += (types(node),)
    return found


def composed(args: Namespace, monkeypatch: pytest.MonkeyPatch) -> list[DictConfig]:
    """Return fairseq's configurations of the arguments: twice by fast composing, and once by Hydra alone."""
    found = []
    for compose in (composing.compose, composing.compose, composing.composed_by_hydra):
        monkeypatch.setattr(utils, "compose", compose)
        found.append(utils.convert_namespace_to_omegaconf(args))
    return found


@pytest.mark.parametrize("parser, line", LINES)
def test_compose_gives_the_values_of_hydra(parser, line, monkeypatch):
    args = options.parse_args_and_arch(parser(), line)
    first, second, by_hydra = (OmegaConf.to_yaml(cfg) for cfg in composed(args, monkeypatch))
    assert first == second == by_hydra and "user_dir" in by_hydra


@pytest.mark.parametrize("parser, line", LINES)
def test_compose_gives_the_types_of_hydra_without_calling_it(parser, line, monkeypatch):
    asked, found = [], []

    def by_hydra(*given, **more):
        asked.append(more["overrides"])
        return hydra(*given, **more)

    def both(config_name, overrides, strict):
        found.extend([composing.compose(config_name, overrides, strict), hydra(config_name, overrides=overrides)])
        return found[0]

    hydra = composing.composed_by_hydra
    args = options.parse_args_and_arch(parser(), line)
    utils.convert_namespace_to_omegaconf(args)  # caches the defaults without a criterion
    monkeypatch.setattr(composing, "composed_by_hydra", by_hydra)
    monkeypatch.setattr(composing, "_by_choices", {})
    monkeypatch.setattr(utils, "compose", both)
    utils.convert_namespace_to_omegaconf(args)
    assert types(found[0]) == types(found[1]) and not asked


def test_file_and_module_of_a_caller_match_those_of_hydra():
    ours, hydras = composing._file_and_module(1), hydra_utils.detect_calling_file_or_module_from_stack_frame(1)
    assert ours == hydras == (__file__, __name__)


def test_composed_configurations_share_no_values(monkeypatch):
    first, second, _ = composed(options.parse_args_and_arch(LINES[0][0](), LINES[0][1]), monkeypatch)
    first.optimization.lr.append(7.0)
    first.task._name = "another"
    assert second.optimization.lr == [0.1, 0.2] and second.task._name == TASK[-1]


@pytest.mark.parametrize("change", [{"max_update": "['a']"}, {"ddp_backend": "none"}, {"seed": 1.5}])
def test_invalid_options_give_the_same_result_or_error_as_hydra(change, monkeypatch):
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


def test_compose_notices_nodes_that_are_registered_later(monkeypatch):
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
