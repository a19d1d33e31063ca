"""Tests that registered options have help texts, are off by default if switches, and have unique names."""

from dataclasses import fields

import pytest
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.configs import FairseqConfig
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_DATACLASS_REGISTRY

from pyramidion_fairseq.config import PyramidionConfig
from pyramidion_fairseq.poolers import POOLERS
from scripts import write_options

#: The model's configuration first, then all others of this package that are registered with fairseq.
CONFIGS = [PyramidionConfig] + [
    config
    for registry in (TASK_DATACLASS_REGISTRY, *(kind["dataclass_registry"] for kind in REGISTRIES.values()))
    for config in registry.values()
    if config.__module__.startswith("pyramidion_fairseq.")
]


def own(config):
    """Return {name: field} of this package's options, without those of fairseq's classes and interpolated ones."""
    ours = [cls for cls in config.__mro__ if cls.__module__.startswith("pyramidion_fairseq.")]
    names = {name for cls in ours for name in vars(cls).get("__annotations__", {})}
    ours = [field for field in fields(config) if field.name in names]
    return {field.name: field for field in ours if not str(field.default).startswith("${")}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_option_has_a_help_text(config):
    assert [name for name, field in own(config).items() if not field.metadata.get("help")] == []


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_switch_is_off_by_default(config):
    """Check it because the flag of a bool that is True by default turns it off, and nothing turns it on."""
    assert [name for name, field in own(config).items() if field.default is True] == []


def test_option_names_are_unique():
    """Check it because a command line has only the first of two options of one name; lengths are shared."""
    stock = [group.type for group in fields(FairseqConfig) if isinstance(group.type, type)]
    taken = {field.name for group in stock if issubclass(group, FairseqDataclass) for field in fields(group)}
    assert {"seed", "beam"} < taken
    for config in CONFIGS:
        assert not own(config).keys() & (taken - {"_name"}), config
    for config in CONFIGS[1:]:
        assert own(PyramidionConfig).keys() & own(config).keys() <= {"max_source_positions", "max_target_positions"}


def test_write_options_refuses_options_and_classes_without_a_text(monkeypatch):
    class Bare(POOLERS.base):
        pass

    monkeypatch.setitem(POOLERS._classes, "bare", Bare)
    with pytest.raises(SystemExit, match="the class of pooler 'bare' has no text that says what it does"):
        write_options.registry("Poolers", POOLERS)
    field = next(field for field in fields(PyramidionConfig) if field.name == "block_size")
    monkeypatch.setattr(field, "metadata", {})
    with pytest.raises(SystemExit, match="--block-size has no text that says what it does"):
        write_options.options()
