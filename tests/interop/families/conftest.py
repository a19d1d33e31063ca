"""Small models of every family."""

import pytest

from tests.helpers import bart, families

rows = bart.rows  # a fixture
transformers = bart.transformers  # a fixture
convert = bart.convert  # a fixture


@pytest.fixture(scope="session", params=sorted(families.KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def made(transformers, kind, rows, tmp_path_factory):
    """(directory, transformers' model) of a kind."""
    return families.make(transformers, kind, tmp_path_factory.mktemp(kind) / "in", rows)
