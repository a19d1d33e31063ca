"""Prepare a corpus for fairseq-train: runs ``pyramidion-prepare`` of this checkout, even if it is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyramidion_commands import prepare  # noqa: E402

if __name__ == "__main__":
    prepare()
