"""Tests of the package; without a GPU, Triton's kernels run in its interpreter, which is chosen before its import."""

import os

import pytest
import torch

pytest.register_assert_rewrite("tests.helpers")  # their assertions say what differs, as tests' do

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pyramidion_fairseq  # noqa: E402, F401 -- before anything of fairseq, which would start to log when imported
