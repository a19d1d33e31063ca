"""Both ways of pooling on a CPU, for tests that have to hold for both."""

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
