"""Checkpoints for the tests of summaries and their explanations."""

from tests.helpers import hub

summarizers = hub.summarizers  # a fixture
trained_folder = hub.trained_folder  # a fixture
