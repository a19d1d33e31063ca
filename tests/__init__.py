"""Tests of the package. Without a GPU, Triton's kernels run in its interpreter, which is chosen before the import."""

import os

import pytest
import torch

pytest.register_assert_rewrite("tests.helpers")  # so that their assertions show differences, as in tests

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pyramidion_fairseq  # noqa: E402, F401 -- before fairseq, which starts to log when it is imported
