"""Fixtures with hub interfaces of tiny models."""

import pytest

from pyramidion_fairseq.inference.loading import load_summarizer
from tests.helpers.summaries import write_checkpoint, write_model, write_sentencepiece


@pytest.fixture(scope="session")
def summarizers(tmp_path_factory):
    """Return a function that builds the hub interface of a tiny model, once for each choice of options."""
    known = {}

    def make(**options):
        key = tuple(sorted(options.items()))
        if key not in known:
            folder = tmp_path_factory.mktemp("summarizer")
            write_sentencepiece(folder)
            known[key] = load_summarizer(write_checkpoint(folder, **options), device="cpu")
        return known[key]

    return make


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory):
    """Write two checkpoints that differ in seed and schedule, dictionaries and a sentencepiece model."""
    folder = tmp_path_factory.mktemp("folder")
    write_model(folder)
    write_checkpoint(folder, "other.pt", seed=1, pooling_schedule="2:9")
    return folder
