"""Fixtures: small BARTs with random weights, fairseq's own, and transformers' where that is installed."""

import pytest

from tests.helpers import bart
from tests.helpers.bart import SHAPE, randomise, write_bpe

rows = bart.rows  # a fixture
stock = bart.stock  # a fixture
symbols = bart.symbols  # a fixture
transformers = bart.transformers  # a fixture
convert = bart.convert  # a fixture


@pytest.fixture(scope="session")
def hugging_face(transformers, rows, tmp_path_factory):
    """Return (directory, transformers' model)."""
    folder = tmp_path_factory.mktemp("hugging_face")
    config = transformers.BartConfig(vocab_size=len(rows), **SHAPE)
    model = randomise(transformers.BartForConditionalGeneration(config))
    model.save_pretrained(folder)
    write_bpe(folder, rows)
    return folder, model
