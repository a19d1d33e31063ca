"""Fixtures: small models of every family."""

import pytest

from pyramidion_fairseq.cli.convert import main
from tests.helpers import bart, families

rows = bart.rows  # a fixture
transformers = bart.transformers  # a fixture
convert = bart.convert  # a fixture


@pytest.fixture(scope="session", params=sorted(families.KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def made(transformers, kind, rows, tmp_path_factory):
    """Return (directory, transformers' model) of a kind."""
    return families.make(transformers, kind, tmp_path_factory.mktemp(kind) / "in", rows)


@pytest.fixture(scope="session")
def ours(made, kind, tmp_path_factory):
    """Return (folder of our checkpoint with full attention, rows of the pretrained embedding)."""
    out = tmp_path_factory.mktemp(kind) / "out"
    main([families.family_of(kind), str(made[0]), str(out), *families.FULL])
    return out, families.rows_of(made[0], kind)


@pytest.fixture(scope="session")
def model(ours):
    """Return our model, loaded from that folder."""
    return bart.load(ours[0])
