"""Requirements of tests that the environment may lack, and how to install them.

A test without its requirement is skipped, and the end of the run says so. The variable PYRAMIDION_REQUIRE names
requirements, separated by commas, without which a test fails. ``.ci/run`` sets it.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

VARIABLE = "PYRAMIDION_REQUIRE"
#: Names that PYRAMIDION_REQUIRE can have.
NAMES = ("browser", "rouge155")
#: Reasons for skipping tests that need hardware or a compiler.
A_GPU = "needs a GPU, some of them two: make gpu on a machine with them"
A_COMPILER = "needs a C++ compiler: apt-get install g++, then make clean setup"


def required() -> set[str]:
    """Return the names in PYRAMIDION_REQUIRE.

    Raises:
        pytest.UsageError: a name is not one of :data:`NAMES`.
    """
    names = {name.strip() for name in os.environ.get(VARIABLE, "").split(",")} - {""}
    if unknown := names - set(NAMES):
        raise pytest.UsageError(f"{VARIABLE} has {', '.join(sorted(unknown))}; it can have {', '.join(NAMES)}")
    return names


def missing(name: str, reason: str) -> NoReturn:
    """Skip the test, or fail if what it needs is required.

    Args:
        name: one of :data:`NAMES`.
        reason: what is missing, and how to install it.
    """
    if name in required():
        pytest.fail(f"{VARIABLE} has {name}: {reason}", pytrace=False)
    pytest.skip(reason)
