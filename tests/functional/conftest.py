"""A fixture that runs tests with both ways to pool on a CPU: compiled, and in operations of torch."""

import pytest

from pyramidion_fairseq.functional.topk import native
from tests.helpers import needs


@pytest.fixture(params=["compiled", "operations of torch"], scope="module")
def both_ways(request):
    if request.param == "compiled" and native.functions() is None:
        pytest.skip(needs.A_COMPILER)
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "compiled":
            patch.setattr(native, "_FUNCTIONS", None)
        yield
