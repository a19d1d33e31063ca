"""The registry, and that a variant's name is its file's name."""

import pytest

from pyramidion_fairseq.attention import ATTENTIONS
from pyramidion_fairseq.poolers import POOLERS
from pyramidion_fairseq.registry import Registry
from pyramidion_fairseq.scorers import SCORERS


class Base:
    @classmethod
    def from_config(cls, cfg):
        return cls(), cfg


def test_register_and_build():
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


def test_who_follows_hears_of_what_is_registered_later():
    registry, heard = Registry("thing", Base), []
    registry.register("one")(Base)
    registry.follow(heard.append)
    registry.register("two")(Base)
    assert heard == ["two"] and registry.names() == ["one", "two"]


@pytest.mark.parametrize("registry", [ATTENTIONS, POOLERS, SCORERS], ids=lambda r: r.kind)
def test_names_are_file_names(registry):
    assert registry.names()
    for name in registry.names():
        assert registry.get(name).__module__.rsplit(".", 1)[1] == name


@pytest.mark.parametrize("registry", [ATTENTIONS, POOLERS, SCORERS], ids=lambda r: r.kind)
def test_what_a_class_lacks_is_named(registry):
    lacking = type("Lacking", (registry.base,), {})
    methods = {"scorer": ["rate"], "pooler": ["forward"], "attention": ["attend", "column_sums", "multiplications"]}
    if registry is not ATTENTIONS:  # which is built of its width and its heads
        with pytest.raises(NotImplementedError, match=r"^Lacking has no from_config$"):
            lacking.from_config(None)
    for method in methods[registry.kind]:
        call = getattr(lacking, method)
        given = [None] * (call.__code__.co_argcount - 1 - len(call.__defaults__ or ()))
        with pytest.raises(NotImplementedError, match=f"^Lacking has no {method}$"):
            call(lacking.__new__(lacking), *given)
