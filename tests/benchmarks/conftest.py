"""benchmarks/ is a folder of scripts: its modules are imported as they import each other."""

import sys

import pytest

from tests.helpers.paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture(autouse=True, scope="session")
def allocator():
    """Set the environment that a benchmark starts itself again for."""
    import measure

    with pytest.MonkeyPatch.context() as patch:
        for name, value in measure.ALLOCATOR.items():
            patch.setenv(name, value)
        yield
