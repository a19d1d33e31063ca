"""From a corpus to data that fairseq-train takes: ``pyramidion-prepare`` of this checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pyramidion_commands import prepare  # noqa: E402

if __name__ == "__main__":
    prepare()
