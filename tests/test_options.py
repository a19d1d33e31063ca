"""Options of the model, the task and what else is registered with fairseq: each says what it does, and is itself."""

from dataclasses import fields

import pytest
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.configs import FairseqConfig
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_DATACLASS_REGISTRY

from pyramidion_fairseq.config import PyramidionConfig
from pyramidion_fairseq.poolers import POOLERS
from scripts import write_options

#: The model's first, then those of all that is ours and registered with fairseq.
CONFIGS = [PyramidionConfig] + [
    config
    for registry in (TASK_DATACLASS_REGISTRY, *(kind["dataclass_registry"] for kind in REGISTRIES.values()))
    for config in registry.values()
    if config.__module__.startswith("pyramidion_fairseq.")
]


def own(config):
    """{name: field} of the options that are ours: not those of fairseq's classes, nor what is taken from another."""
    ours = [cls for cls in config.__mro__ if cls.__module__.startswith("pyramidion_fairseq.")]
    names = {name for cls in ours for name in vars(cls).get("__annotations__", {})}
    ours = [field for field in fields(config) if field.name in names]
    return {field.name: field for field in ours if not str(field.default).startswith("${")}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_an_option_says_what_it_does(config):
    assert [name for name, field in own(config).items() if not field.metadata.get("help")] == []


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_a_switch_is_off_until_it_is_given(config):
    """The flag of a bool that is True by default turns it off, and nothing turns it on."""
    assert [name for name, field in own(config).items() if field.default is True] == []


def test_a_name_stands_for_one_option():
    """Of two options with one name a command line has the first alone, its default too; lengths are both's."""
    stock = [group.type for group in fields(FairseqConfig) if isinstance(group.type, type)]
    taken = {field.name for group in stock if issubclass(group, FairseqDataclass) for field in fields(group)}
    assert {"seed", "beam"} < taken
    for config in CONFIGS:
        assert not own(config).keys() & (taken - {"_name"}), config
    for config in CONFIGS[1:]:
        assert own(PyramidionConfig).keys() & own(config).keys() <= {"max_source_positions", "max_target_positions"}


def test_the_page_of_options_asks_for_what_is_missing(monkeypatch):
    class Bare(POOLERS.base):
        pass

    monkeypatch.setitem(POOLERS._classes, "bare", Bare)
    with pytest.raises(SystemExit, match="the class of pooler 'bare' has no text that says what it does"):
        write_options.registry("Poolers", POOLERS)
    field = next(field for field in fields(PyramidionConfig) if field.name == "block_size")
    monkeypatch.setattr(field, "metadata", {})
    with pytest.raises(SystemExit, match="--block-size has no text that says what it does"):
        write_options.options()
