"""What some tests need that the environment does not bring, and how to have it.

A test without it is skipped, and the end of the run says so. The variable PYRAMIDION_REQUIRE names what must be there,
separated by commas: a test that lacks it fails. ``.ci/run`` sets it.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

VARIABLE = "PYRAMIDION_REQUIRE"
#: What can be required.
NAMES = ("browser", "rouge155")
#: Reasons of tests that need hardware or a compiler, each the same in all files.
A_GPU = "needs a GPU, some of them two: make gpu on a machine with them"
A_COMPILER = "needs a C++ compiler: apt-get install g++, then make clean setup"


def required() -> set[str]:
    """What PYRAMIDION_REQUIRE names.

    Raises:
        pytest.UsageError: a name that is not among :data:`NAMES`.
    """
    names = {name.strip() for name in os.environ.get(VARIABLE, "").split(",")} - {""}
    if unknown := names - set(NAMES):
        raise pytest.UsageError(f"{VARIABLE} has {', '.join(sorted(unknown))}; it can have {', '.join(NAMES)}")
    return names


def missing(name: str, reason: str) -> NoReturn:
    """Skip the test; fail where what it needs is required.

    Args:
        name: one of :data:`NAMES`.
        reason: what is missing, and how to have it.
    """
    if name in required():
        pytest.fail(f"{VARIABLE} has {name}: {reason}", pytrace=False)
    pytest.skip(reason)
