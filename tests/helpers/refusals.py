"""Check that checkpoints are refused."""

import time

import pytest

from pyramidion_fairseq import checkpoints


def refused(path, seconds=5.0):
    """Check that a checkpoint is refused in one line after few seconds of computing, and return the line."""
    begun = time.process_time()
    with pytest.raises((checkpoints.UnsafeCheckpointError, checkpoints.DamagedCheckpointError)) as error:
        checkpoints.load_checkpoint(path)
    assert time.process_time() - begun < seconds
    line = str(error.value)
    assert "\n" not in line and str(path) in line and len(line) < 800
    return line
