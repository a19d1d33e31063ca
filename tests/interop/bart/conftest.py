"""Small BARTs with random weights: fairseq's own, and transformers' where that is installed."""

import os

import pytest

from pyramidion_fairseq.cli.convert import main
from tests.helpers import bart
from tests.helpers.bart import SHAPE, randomise, write_bpe

rows = bart.rows  # a fixture
stock = bart.stock  # a fixture
symbols = bart.symbols  # a fixture


@pytest.fixture(scope="session")
def transformers(tmp_path_factory):
    """The package, or a skip. It copies models' code to a cache, which it looks up when it is imported."""
    os.environ.update(HF_MODULES_CACHE=str(tmp_path_factory.mktemp("modules")), HF_HUB_OFFLINE="1")
    return pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def hugging_face(transformers, rows, tmp_path_factory):
    """(directory, transformers' model)."""
    folder = tmp_path_factory.mktemp("hugging_face")
    config = transformers.BartConfig(vocab_size=len(rows), **SHAPE)
    model = randomise(transformers.BartForConditionalGeneration(config))
    model.save_pretrained(folder)
    write_bpe(folder, rows)
    return folder, model


@pytest.fixture
def convert(tmp_path):
    """convert("bart", IN, *flags): the path of the new folder, by the command."""
    count = iter(range(100))

    def run(kind, given, *flags):
        out = tmp_path / f"{kind}_{next(count)}"
        main([kind, str(given), str(out), *map(str, flags)])
        return out

    return run
