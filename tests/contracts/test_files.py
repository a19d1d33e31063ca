"""Tests that every file of a variant registers its class; a missing decorator would go unnoticed."""

import importlib
import pkgutil

import pytest

from pyramidion_fairseq import attention, poolers, scorers

PACKAGES = {scorers: scorers.SCORERS, poolers: poolers.POOLERS, attention: attention.ATTENTIONS}
FILES = [(package, module.name) for package in PACKAGES for module in pkgutil.iter_modules(package.__path__)]


@pytest.mark.parametrize("package, file", FILES, ids=lambda value: getattr(value, "__name__", value))
def test_class_of_a_file_is_registered_under_the_files_name(package, file):
    registry, module = PACKAGES[package], importlib.import_module(f"{package.__name__}.{file}")
    defined = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, registry.base) and value.__module__ == module.__name__
    ]
    variants = [value for value in defined if not value.__subclasses__()]  # classes with subclasses are bases
    forgotten = [value.__name__ for value in variants if registry.name_of(value) != file]
    assert not forgotten, f'@{registry.kind.upper()}S.register("{file}") is missing above {", ".join(forgotten)}'
