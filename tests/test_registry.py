"""Tests of the registry, and that each variant has the name of its file."""

import pytest

from pyramidion_fairseq.attention import ATTENTIONS
from pyramidion_fairseq.poolers import POOLERS
from pyramidion_fairseq.registry import Registry
from pyramidion_fairseq.scorers import SCORERS


class Base:
    @classmethod
    def from_config(cls, cfg):
        return cls(), cfg


def test_registry_builds_registered_classes_and_refuses_others():
    registry = Registry("thing", Base)

    @registry.register("one")
    class One(Base):
        pass

    thing, cfg = registry.build("one", 7)
    assert isinstance(thing, One) and cfg == 7 and registry.names() == ["one"]
    with pytest.raises(ValueError, match="thing 'one' is registered already"):
        registry.register("one")(One)
    with pytest.raises(TypeError, match="must extend Base"):
        registry.register("two")(int)
    with pytest.raises(ValueError, match="unknown thing 'three'; there are: one"):
        registry.build("three", None)


def test_registry_follow_reports_later_registrations():
    registry, heard = Registry("thing", Base), []
    registry.register("one")(Base)
    registry.follow(heard.append)
    registry.register("two")(Base)
    assert heard == ["two"] and registry.names() == ["one", "two"]


@pytest.mark.parametrize("registry", [ATTENTIONS, POOLERS, SCORERS], ids=lambda r: r.kind)
def test_variants_are_registered_under_the_names_of_their_files(registry):
    assert registry.names()
    for name in registry.names():
        assert registry.get(name).__module__.rsplit(".", 1)[1] == name


@pytest.mark.parametrize("registry", [ATTENTIONS, POOLERS, SCORERS], ids=lambda r: r.kind)
def test_missing_methods_of_a_class_are_named(registry):
    lacking = type("Lacking", (registry.base,), {})
    methods = {"scorer": ["rate"], "pooler": ["forward"], "attention": ["attend", "column_sums", "multiplications"]}
    if registry is not ATTENTIONS:  # an attention is built from its width and heads
        with pytest.raises(NotImplementedError, match=r"^Lacking has no from_config$"):
            lacking.from_config(None)
    for method in methods[registry.kind]:
        call = getattr(lacking, method)
        given = [None] * (call.__code__.co_argcount - 1 - len(call.__defaults__ or ()))
        with pytest.raises(NotImplementedError, match=f"^Lacking has no {method}$"):
            call(lacking.__new__(lacking), *given)
