"""Put benchmarks/ on the path: it is a folder of scripts that import each other by their plain names."""

import sys

import pytest

from tests.helpers.paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture(autouse=True, scope="session")
def allocator():
    """Set the environment variables for which a benchmark would restart itself."""
    import measure

    with pytest.MonkeyPatch.context() as patch:
        for name, value in measure.ALLOCATOR.items():
            patch.setenv(name, value)
        yield
